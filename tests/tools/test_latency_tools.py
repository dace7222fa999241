"""tools/latency_table.py and tools/latency_report.py."""

import json

import pytest
import torch

from rarts_mm.apis import read_config
from rarts_mm.apis.latency_report import latency_report
from rarts_mm.apis.latency_table import make_latency_table
from rarts_mm.cells.genotype import GENOTYPES, Genotype
from rarts_mm.cells.latency_table import LatencyTable
from tests.conftest import CONFIGS, run_tool

SMALL = """
_base_ = "{base}"
model = dict(architecture=dict(
    backbone=dict(channels=2, layers=3, in_channels=1), head=dict(in_channels=32)))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A small topology search whose training images are 32 x 32, as the transforms say."""
    path = tmp_path_factory.mktemp("config") / "small_cells.py"
    path.write_text(SMALL.format(base=CONFIGS / "rarts_darts_cifar10.py"))
    return path


@pytest.fixture(scope="module")
def table(config, tmp_path_factory):
    """The tool's output, and the file that it wrote."""
    out = tmp_path_factory.mktemp("tables") / "table.json"
    before = torch.get_num_threads()
    arguments = [config, "--out", out, "--repeats", 2, "--batch-size", 2, "--threads", 1]
    status, text, err = run_tool("latency_table", *arguments)
    assert status == 0, err
    assert torch.get_num_threads() == before
    return text, out


def test_the_table_is_of_the_config_at_the_size_of_its_images(table):
    text, out = table
    found = LatencyTable.read(out)
    assert found.network["input_size"] == [32, 32]
    assert (found.network["channels"], found.network["layers"]) == (2, 3)
    assert found.measured["batch_size"] == 2
    assert found.measured["threads"] == 1
    assert [len(rows) for rows in found.latencies.values()] == [14, 14]
    assert "2 x 32 x 32, stride 1 (14 normal edges)" in text
    assert f"wrote {out}" in text


@pytest.mark.slow
def test_another_size_and_the_default_place(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table, out = make_latency_table(config, size=(9, 12), repeats=1)
    assert str(out) == "work_dirs/latency/small_cells_cpu.json"
    assert table == LatencyTable.read(tmp_path / out)
    assert table.network["input_size"] == [9, 12]
    # The same settings again, but not others.
    make_latency_table(config, size=(9, 12), repeats=1)
    for settings in (dict(size=(8, 8)), dict(size=(9, 12), batch=2)):
        with pytest.raises(ValueError, match=r"holds another measurement \(.*--out FILE"):
            make_latency_table(config, repeats=1, **settings)
    assert LatencyTable.read(out).network["input_size"] == [9, 12]


def test_the_report_predicts_and_measures(table, tmp_path):
    _, out = table
    genotype = GENOTYPES["DARTS_V1"]
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(genotype.to_dict()))
    status, text, err = run_tool(
        "latency_report", path, out, "--repeats", 2, "--json", tmp_path / "report.json"
    )
    assert status == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    predicted = LatencyTable.read(out).predict(genotype)
    assert report["predicted"] == {**predicted, "sum": sum(predicted.values())}
    assert report["measured"]["median"] > 0
    assert report["environment"]["batch_size"] == 2
    assert f"predicted: {sum(predicted.values()):.3f} ms" in text
    assert latency_report("DARTS_V1", out, repeats=1).predicted == predicted
    # The classic text, in a file.
    path.write_text(genotype.text())
    assert latency_report(path, out, repeats=1).architecture == genotype


def test_a_table_and_a_report_of_nats_bench(tmp_path):
    options = {
        "model.architecture.backbone.channels": 2,
        "model.architecture.backbone.repeats": 2,
        "model.architecture.head.in_channels": 8,
    }
    table, out = make_latency_table(
        CONFIGS / "rarts_nats_cifar10.py",
        out=tmp_path / "t.json",
        size=(8, 8),
        repeats=1,
        options=options,
    )
    # Two cells of each width; all edges of a cell alike.
    assert {(s.input, s.stride, *s.places.values()) for s in table.shapes} == {
        ((2, 8, 8), 1, 12),
        ((4, 4, 4), 1, 12),
        ((8, 2, 2), 1, 12),
    }
    architecture = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    columns = [3, 0, 1, 4, 0, 2]
    wanted = sum(table.latencies["cell"][edge][c] for edge, c in enumerate(columns))
    report = latency_report(architecture, out, repeats=1)
    assert report.predicted == {"cell": pytest.approx(wanted)}
    assert report.measured.median > 0
    assert len(table.latencies["cell"]) == 6
    with pytest.raises(ValueError, match=r"9 x 8.*divisible by 4"):
        make_latency_table(
            CONFIGS / "rarts_nats_cifar10.py",
            out=tmp_path / "odd.json",
            size=(9, 8),
            options=options,
        )
    assert not (tmp_path / "odd.json").exists()


def search_with(folder, config, penalty=None, edges=14):
    """The folder that a search leaves, as far as a derivation needs it."""
    folder.mkdir()
    cfg = read_config(config)
    if penalty is not None:
        cfg.optim_wrapper.penalty = penalty
    cfg.dump(folder / "search.py")
    generator = torch.Generator().manual_seed(3)
    alphas = {
        f"alpha.{k}": torch.randn(edges, 8, generator=generator) for k in ("normal", "reduce")
    }
    torch.save(dict(meta=dict(epoch=1), state_dict=alphas), folder / "epoch_1.pth")
    (folder / "last_checkpoint").write_text(str(folder / "epoch_1.pth"))
    return folder


SMALLER = ("--cfg-options", "model.backbone.channels=2", "model.backbone.layers=3")


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "of-the-penalty"])
def test_a_derivation_reports_the_latency(config, table, tmp_path, asked):
    penalty = dict(type="LatencyPenalty", gamma=0.1, latencies=str(table[1]))
    folder = search_with(tmp_path / "search", config, None if asked else penalty)
    arguments = ("--latency", table[1]) if asked else ()
    status, text, err = run_tool("derive", folder, *arguments, *SMALLER)
    assert status == 0, err
    derived = folder / "derived_cifar"
    report = json.loads((derived / "latency.json").read_text())
    genotype = Genotype.parse((derived / "genotype.json").read_text())
    predicted = LatencyTable.read(table[1]).predict(genotype)
    assert report["predicted"] == {**predicted, "sum": sum(predicted.values())}
    assert report["measured"]["median"] > 0
    assert f"predicted: {sum(predicted.values()):.3f} ms" in text
    assert "latency.json" in text


@pytest.mark.slow
def test_a_derivation_without_a_table_that_fits(config, table, tmp_path):
    """The penalty's own may be gone, as nobody asked for it; one that is asked for must fit."""
    penalty = dict(type="LatencyPenalty", gamma=0.1, latencies=str(tmp_path / "gone.json"))
    folder = search_with(tmp_path / "search", config, penalty)
    status, text, err = run_tool("derive", folder, *SMALLER)
    assert status == 0, err
    assert "latency not measured" in text
    assert "gone.json" in text
    assert not (folder / "derived_cifar" / "latency.json").exists()

    smaller = search_with(tmp_path / "two-nodes", config, edges=5)
    status, _, err = run_tool("derive", smaller, "--latency", table[1], *SMALLER)
    assert status == 2
    for part in ("--latency", "14 (normal), 14 (reduce) edges", "5 (normal), 5 (reduce)"):
        assert part in err
    assert not (smaller / "derived_cifar").exists()

    wider = search_with(tmp_path / "wider", config)
    text = (wider / "search.py").read_text().replace("channels=2", "channels=4")
    (wider / "search.py").write_text(text.replace("in_channels=32", "in_channels=64"))
    status, _, err = run_tool("derive", wider, "--latency", table[1], *SMALLER)
    assert status == 2
    assert "channels: 2 in the table, 4 here" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CONFIGS / "sidt_swin_micro_digits.py"], "searches a WidthSpace"),
        ([CONFIGS / "_base_" / "darts-search_cifar10.py"], "no rarts_mm.SearchModel"),
        (["nowhere.py"], "does not exist"),
        (["CONFIG", "--input-size", "0"], "--input-size 0 0: give a side in pixels"),
        (["CONFIG", "--input-size", "8", "8", "8"], "one side, or height and width"),
        (["CONFIG", "--batch-size", "0"], "--batch-size 0"),
        (["CONFIG", "--repeats", "0"], "--repeats 0"),
        (["CONFIG", "--threads", "0"], "--threads 0"),
        (["CONFIG", "--out", "."], "--out . is a folder"),
        (
            ["CONFIG", "--cfg-options", "train_dataloader.dataset.pipeline=[]"],
            "does not say how large its images are",
        ),
        pytest.param(
            ["CONFIG", "--device", "cuda"],
            "torch sees no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_input_of_the_table(config, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    words = [config if word == "CONFIG" else word for word in arguments]
    status, _, err = run_tool("latency_table", *words)
    assert status == 2
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("genotype", "change", "message"),
    [
        ("DARTS_V9", {}, "'DARTS_V9'"),
        ("nowhere/genotype.json", {}, "'nowhere/genotype.json'"),
        ("DARTS_V1", dict(latencies=dict(cell=[[1.0] * 8])), "another space than the architecture"),
        ("DARTS_V1", dict(shapes=None), "no latency table"),
        ("DARTS_V1", dict(network=dict(type="X")), "no latency table"),
        pytest.param(
            "DARTS_V1",
            dict(measured=dict(device="cuda: X", threads=1, batch_size=1, dtype="float32")),
            "torch sees no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_input_of_the_report(table, tmp_path, genotype, change, message):
    content = json.loads(table[1].read_text()) | change
    (tmp_path / "table.json").write_text(json.dumps(content))
    status, _, err = run_tool("latency_report", genotype, tmp_path / "table.json")
    assert status == 2
    assert message in err
