"""The look-up in NATS-Bench, on a small benchmark in its format."""

import importlib.util
import json
import sys

import pytest
import torch
from mmengine.registry import init_default_scope

from rarts_mm.cells import NATSArchitecture
from rarts_mm.cells.nats import LookUp, LookUpUnavailable
from rarts_mm.cells.nats.lookup import FOLDER, expected_path
from tests import tiny
from tests.cells import nats_files
from tests.cells.searches import config, loader
from tests.cells.test_nats_architecture import ELEVENTH, ZEROTH
from tests.conftest import run_tool

# Numbers of this test's own, with a mean that is no seed's.
ACCURACIES = {
    0: {"cifar10": {777: 80.0, 888: 81.0, 999: 83.5}, "cifar100": {777: 44.0}},
    1: {"cifar10": {777: 91.0}, "ImageNet16-120": {777: 30.0, 888: 31.0}},
}
REAL = importlib.util.find_spec("nats_bench") is not None
PACKAGES = [
    "stand-in",
    pytest.param("real", marks=pytest.mark.skipif(not REAL, reason="nats_bench is not installed")),
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A TORCH_HOME with a benchmark of three architectures, two of which have files."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    third = NATSArchitecture.from_number(7).text()
    nats_files.write(tmp_path / FOLDER, [ZEROTH, ELEVENTH, third], ACCURACIES)
    return tmp_path


@pytest.fixture
def package(request, monkeypatch):
    """The module ``nats_bench``: the real one, or a stand-in that reads the same files."""
    if getattr(request, "param", "stand-in") == "stand-in":
        monkeypatch.setitem(sys.modules, "nats_bench", nats_files.stand_in())


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "nats_bench", None)


@pytest.mark.parametrize("package", PACKAGES, indirect=True)
def test_indices_and_accuracies(home, package):
    benchmark = LookUp()
    assert benchmark.path == expected_path() == home / FOLDER
    assert [benchmark.index(text) for text in (ZEROTH, ELEVENTH)] == [0, 1]
    # The mean over seeds, after the last of "200" epochs, on the data set's test images.
    assert benchmark.accuracy(ZEROTH) == pytest.approx(81.5)
    assert benchmark.accuracy(NATSArchitecture.parse(ZEROTH), "cifar100") == pytest.approx(44)
    assert benchmark.accuracy(ELEVENTH, "ImageNet16-120") == pytest.approx(30.5)
    with pytest.raises(ValueError, match="has no architecture \\|none~0"):
        benchmark.accuracy(NATSArchitecture.from_number(0))
    with pytest.raises(ValueError, match="dataset 'cifar10-valid': NATS-Bench has test accuracies"):
        benchmark.accuracy(ZEROTH, "cifar10-valid")
    with pytest.raises(LookUpUnavailable, match=r"no file .*000002\.pickle\.pbz2"):
        benchmark.accuracy(NATSArchitecture.from_number(7))
    with pytest.raises(LookUpUnavailable, match=r"000001\.pickle\.pbz2|no test accuracy"):
        benchmark.accuracy(ELEVENTH, "cifar100")


@pytest.mark.parametrize("package", PACKAGES, indirect=True)
@pytest.mark.parametrize("content", [b"", b"no pickle", None], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("name", ["meta", "000000"])
def test_broken_files_are_named(home, package, name, content):
    path = home / FOLDER / f"{name}.pickle.pbz2"
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(LookUpUnavailable, match=rf"{name}\.pickle\.pbz2.*unpack"):
        LookUp().accuracy(ZEROTH)


def test_a_missing_package_and_missing_files_are_both_named(tmp_path, monkeypatch, no_package):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(LookUpUnavailable) as error:
        LookUp()
    assert "nats_bench is not installed" in str(error.value)
    assert str(tmp_path / "torch" / FOLDER) in str(error.value)
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expected_path() == tmp_path / ".torch" / FOLDER


def test_the_command_line(home, package):
    status, out, err = run_tool("nats_lookup", ZEROTH)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == ZEROTH
    assert "index in the benchmark: 0" in out
    assert "skip share: 50.0%" in out
    assert "81.50 %" in out
    file = home / "genotype.json"
    file.write_text(json.dumps(NATSArchitecture.parse(ELEVENTH).to_dict()))
    status, out, err = run_tool("nats_lookup", file, "--dataset", "ImageNet16-120")
    assert "30.50 %" in out


def test_the_command_line_without_what_it_needs(tmp_path, monkeypatch, no_package):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    status, out, err = run_tool("nats_lookup", ZEROTH)
    assert (status, out) == (1, "")
    assert str(tmp_path / FOLDER) in err
    assert "Traceback" not in err
    status, out, err = run_tool("nats_lookup", "|none~0|")
    assert status == 2
    assert "expected 3" in err


def search(folder, **hook):
    init_default_scope("mmpretrain")
    hooks = [dict(type="GenotypeHook"), dict(type="NATSLookUpHook", **hook)]
    runner = tiny.runner(
        folder,
        model=config("NATSSpace"),
        data=loader(4),
        custom_hooks=[dict(h, type=f"rarts_mm.{h['type']}") for h in hooks],
    )
    with torch.no_grad():
        # What alpha's optimiser does in one step does not change this choice: architecture 0.
        for row, column in enumerate((4, 2, 1, 2, 1, 1)):
            runner.model.alpha_parameters()["cell"][row, column] = 5
    runner.train()
    return json.loads((folder / "nats.json").read_text()), tiny.log_text(folder)


def test_a_search_reports_what_the_benchmark_says(home, package, tmp_path):
    record, log = search(tmp_path / "run")
    assert record == dict(
        architecture=ZEROTH,
        skip_share=0.5,
        dataset="cifar10",
        test_accuracy=pytest.approx(81.5),
    )
    assert "skip 50.0 %, test accuracy 81.50 % on cifar10" in log
    written = json.loads((tmp_path / "run" / "genotype.json").read_text())
    assert NATSArchitecture.parse(written).text() == ZEROTH


def test_a_search_without_the_benchmark_says_so(tmp_path, monkeypatch, no_package):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    record, log = search(tmp_path / "run")
    assert record["test_accuracy"] is None
    assert (record["architecture"], record["skip_share"]) == (ZEROTH, 0.5)
    assert str(tmp_path / FOLDER) in record["reason"]
    assert "skip 50.0 %, accuracy not looked up" in log


def test_the_hook_is_for_this_space_alone(tmp_path):
    hook = dict(type="rarts_mm.NATSLookUpHook")
    runner = tiny.runner(tmp_path, custom_hooks=[hook], data=tiny.loader(4, 2))
    with pytest.raises(ValueError, match="a WidthSpace searches no architecture of NATS-Bench"):
        runner.train()
