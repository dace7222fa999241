"""Damaged checkpoints, and such as are programs, through every command line that reads one."""

from pathlib import Path

import pytest
import torch

from rarts_mm import apis
from rarts_mm.apis.stages import Stages
from rarts_mm.checkpoint_reader import is_trusting
from tests import tiny
from tests.apis import stage_functions
from tests.checkpoint_reader.spoiling import flip, put_nan_in, put_program_in
from tests.conftest import run_tool
from tests.tools.test_bad_input import files_under
from tests.tools.test_derive import flat, write_search

COMMANDS = ["resume", "load_from", "test", "teacher", "prune", "derive"]
SPOILT = dict(
    flipped=(lambda path, _: flip(path), "the checksum of its part"),
    nan=(lambda path, _: put_nan_in(path), "are not finite (NaN or infinity)"),
    program=(put_program_in, "it holds more than data (eval), and could run any program"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with ``plain.py`` and ``run``, its training of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    config = tiny.plain_config(folder / "plain.py")
    status, _, err = run_tool("train", config, "--work-dir", folder / "run")
    assert status == 0, err
    return folder


def command_of(name: str, trained: Path, folder: Path, request) -> tuple[Path, list]:
    """A checkpoint in the folder, and a command that reads it and writes there."""
    config, checkpoint = trained / "plain.py", folder / "run" / "epoch_2.pth"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes((trained / "run" / "epoch_2.pth").read_bytes())
    new = ["--work-dir", folder / "new"]
    epoch = ["--cfg-options", "train_cfg.max_epochs=1"]
    match name:
        case "resume":
            (folder / "run" / "last_checkpoint").write_text(str(checkpoint))
            return checkpoint, ["train", config, "--work-dir", folder / "run", "--resume"]
        case "load_from":
            return checkpoint, ["train", config, *new, *epoch, f"load_from={checkpoint}"]
        case "test":
            return checkpoint, ["test", config, checkpoint, *new]
        case "teacher":
            # Read where the model is built.
            both = dict(student=tiny.architecture(), teacher=tiny.architecture())
            kind = dict(type="rarts_mm.DistilledClassifier", teacher_checkpoint=str(checkpoint))
            config = tiny.plain_config(folder / "distill.py", {**kind, **both})
            return checkpoint, ["train", config, *new, *epoch]
        case "prune":
            search = request.getfixturevalue("search_copy")
            checkpoint, config = search / "epoch_2.pth", next(search.glob("*.py"))
            return checkpoint, ["prune", config, checkpoint, "--ratio", "0.4"]
        case "derive":
            checkpoint = write_search(folder / "search") / "epoch_50.pth"
            network = folder / "small.py"
            sizes = dict(model__backbone__channels=4, model__backbone__layers=3)
            network.write_text(flat("darts_retrain_cifar10", **sizes))
            return checkpoint, ["derive", folder / "search", "--network", network]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_checkpoint_is_refused_by_every_command(trained, tmp_path, request, how, name):
    checkpoint, command = command_of(name, trained, tmp_path, request)
    spoil, words = SPOILT[how]
    target = tmp_path / "was-run"
    spoil(checkpoint, target)
    before = files_under(tmp_path)
    status, _, err = run_tool(*command)
    assert status == 2, err
    (line,) = (line for line in err.splitlines() if line.startswith("error"))
    assert words in line
    assert str(checkpoint) in line
    assert "Traceback" not in err
    if how == "program":
        assert "repeat the command with --trust-checkpoint" in line
    # A teacher is read, and the newest file to resume from chosen, when there is a log already.
    written = {p for p in files_under(tmp_path) if before.get(p) != p.read_bytes()}
    assert not target.exists()
    assert not written or name in ("teacher", "resume")
    assert {p.suffix for p in written} <= {".log", ".py", ".json", ""}


@pytest.mark.parametrize("name", COMMANDS)
def test_with_trust_checkpoint_it_is_read(trained, tmp_path, request, name):
    checkpoint, command = command_of(name, trained, tmp_path, request)
    put_program_in(checkpoint, tmp_path / "was-run")
    status, _, err = run_tool(*command, "--trust-checkpoint")
    assert status == 0, err
    assert (tmp_path / "was-run").exists()


def test_what_is_refused_for_trust_is_not_replaced_by_an_older_file(trained, tmp_path):
    """Its epochs would be lost, and there is a remedy; damage has none."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("epoch_1.pth", "epoch_2.pth"):
        (run / name).write_bytes((trained / "run" / name).read_bytes())
    (run / "last_checkpoint").write_text(str(run / "epoch_2.pth"))
    put_program_in(run / "epoch_2.pth", tmp_path / "was-run")
    command = ("train", trained / "plain.py", "--work-dir", run, "--resume")
    status, _, err = run_tool(*command)
    assert status == 2
    assert "epoch_2.pth is not read" in err
    flip(run / "epoch_2.pth")
    status, _, err = run_tool(*command)
    assert status == 0, err
    (log,) = (p for p in run.glob("*/*.log") if "resumed epoch: 1, iter: 2" in p.read_text())
    assert "epoch_2.pth is broken (the checksum of its part" in log.read_text()


def test_text_in_a_checkpoint_is_not_run_as_a_config(trained, tmp_path):
    """Runner.resume would, and the text is data to torch."""
    content = torch.load(trained / "run" / "epoch_1.pth", weights_only=False)
    content["meta"]["config"] = f"open({str(tmp_path / 'was-run')!r}, 'w').close()"
    torch.save(content, tmp_path / "epoch_1.pth")
    options = ("--work-dir", tmp_path / "run", "--resume", tmp_path / "epoch_1.pth")
    status, _, err = run_tool("train", trained / "plain.py", *options)
    assert status == 0, err
    assert (tmp_path / "run" / "epoch_2.pth").is_file()
    assert not (tmp_path / "was-run").exists()


@pytest.mark.slow
def test_the_decision_holds_in_the_stages_of_a_chain(monkeypatch, small_config, tmp_path):
    told = []

    def chain(*_, **__) -> None:
        told.append(is_trusting())
        if told[-1]:
            stages = Stages(tmp_path / "stages.json", {})
            told.append(stages.run("trust", "", stage_functions.trust)["trusted"])

    monkeypatch.setattr(apis, "compress", chain)
    for flags in ([], ["--trust-checkpoint"], []):
        assert run_tool("compress", small_config, "--ratio", "0.4", *flags)[0] == 0
    assert told == [False, True, True, False]


CLASSES = "model.head.num_classes=5"


def test_resuming_with_other_classes_names_the_first_tensor(trained, tmp_path):
    """In load_from the head may differ, as MMDetection's users expect."""
    checkpoint = trained / "run" / "epoch_1.pth"
    before = files_under(trained)
    command = ("train", trained / "plain.py", "--work-dir", tmp_path / "run", "--cfg-options")
    resume = ("--resume", checkpoint)
    status, _, err = run_tool(*command, CLASSES, "data_preprocessor.num_classes=5", *resume)
    assert status == 2
    assert f"checkpoint {checkpoint} cannot be resumed from" in err
    assert "\n  head.fc.weight: (4, 16) in the file, (5, 16) in the model\n" in err
    assert "another --work-dir" in err
    assert files_under(trained) == before
    assert not list((tmp_path / "run").glob("*.pth"))
    status, _, err = run_tool(*command, CLASSES, f"load_from={checkpoint}")
    assert status == 0, err


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("head.fc.weight", "head.fc.weight: not in the file"),
        ("head.more", "head.more: not in the model"),
    ],
)
def test_resuming_is_strict(trained, tmp_path, key, line):
    content = torch.load(trained / "run" / "epoch_1.pth", weights_only=False)
    if content["state_dict"].pop(key, None) is None:
        content["state_dict"][key] = torch.ones(1)
    torch.save(content, tmp_path / "epoch_1.pth")
    options = ("--work-dir", tmp_path / "run", "--resume", tmp_path / "epoch_1.pth")
    status, _, err = run_tool("train", trained / "plain.py", *options)
    assert status == 2
    assert f"  {line}\n" in err


def test_a_search_goes_on_with_all_that_a_search_has(tmp_path):
    """Also where it only starts from another one: half of a search's weights would be random."""
    config = tiny.plain_config(tmp_path / "search.py", more=tiny.SEARCH)
    status, _, err = run_tool("train", config, "--work-dir", tmp_path / "run")
    assert status == 0, err
    checkpoint = tmp_path / "run" / "epoch_1.pth"
    other = ["model.architecture.head.num_classes=5", "data_preprocessor.num_classes=5"]
    command = ["train", config, "--work-dir", tmp_path / "w", "--cfg-options", *other]
    for start, words in (
        (["--resume", checkpoint], "cannot be resumed from"),
        ([f"load_from={checkpoint}"], "cannot be started from (load_from)"),
    ):
        status, _, err = run_tool(*command, *start)
        assert status == 2, err
        assert f"checkpoint {checkpoint} {words}" in err
        for network in ("auxiliary", "primary"):
            line = f"{network}.head.fc.weight: (4, 16) in the file, (5, 16) in the model"
            assert f"  {line}\n" in err
    assert not list((tmp_path / "w").glob("*.pth"))
