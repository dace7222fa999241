"""The reader of checkpoints: damage, numbers that are none, and pickles that are programs."""

import collections
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import CheckpointLoader
from torch.optim import SGD

import rarts_mm.apis  # noqa: F401  (MMEngine reads through the reader from now on)
from rarts_mm.checkpoint_reader import (
    CheckpointFileError,
    UntrustedCheckpointError,
    check_checkpoint,
    checks,
    is_trusting,
    read_checkpoint,
    read_weights,
    reading,
    trusting,
)
from tests.checkpoint_reader.spoiling import Program, flip, put_nan_in, put_program_in

LEGACY = dict(_use_new_zipfile_serialization=False)


def small() -> dict:
    state = dict(w=torch.ones(100), n=torch.arange(3))
    return dict(meta=dict(epoch=1, iter=2), state_dict=state)


@pytest.fixture
def path(tmp_path):
    torch.save(small(), tmp_path / "epoch_1.pth")
    return tmp_path / "epoch_1.pth"


def reason(path) -> str:
    """Why a file is not read; looking at it and reading it give the same."""
    with pytest.raises(CheckpointFileError) as looked:
        check_checkpoint(path)
    with pytest.raises(CheckpointFileError) as read:
        read_checkpoint(path)
    assert str(looked.value) == str(read.value)
    assert path.name in str(read.value)
    return str(read.value)


def test_damage_and_numbers_that_are_none_are_named(path, tmp_path):
    assert torch.equal(read_checkpoint(path)["state_dict"]["w"], torch.ones(100))
    flip(path)
    assert "the checksum of its part epoch_1/data/" in reason(path)
    torch.save(small(), path)
    put_nan_in(path)
    # The last of them with inf in all places is the first as well.
    assert "100 values of w are not finite (NaN or infinity)" in reason(path)
    odd = dict(state_dict=dict(ok=torch.ones(2), a=torch.tensor([1, np.nan, -np.inf])))
    odd["state_dict"] |= dict(b=torch.tensor(np.inf), attn_mask=torch.tensor(-np.inf))
    torch.save(odd, path)
    assert "2 values of a are not finite (NaN or infinity), and 1 more tensors" in reason(path)
    torch.save({"model": {"w": torch.tensor(np.nan).half()}}, path)
    assert "1 values of w are not finite" in reason(path)
    torch.save([1, 2], path)
    assert "holds a list" in reason(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("epoch_1/data.pkl", pickle.dumps(small()))
    assert "is compressed, which torch.save never does" in reason(path)
    path.write_bytes(b"")
    assert "0 bytes that are no whole file of torch.save" in reason(path)
    with pytest.raises(CheckpointFileError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_whatever_is_done_to_a_file_it_is_read_or_refused(tmp_path, legacy, monkeypatch):
    """Flips, cuts, garbage in the zip's directory and elsewhere; nothing but the reader's error."""
    monkeypatch.setattr(reading, "print_log", lambda *_, **__: None)
    path, rng, found = tmp_path / "x.pth", random.Random(0), collections.Counter()
    torch.save(small(), path, **(LEGACY if legacy else {}))
    whole = path.read_bytes()
    directory = max(whole.find(b"PK\1\2"), 0)
    for number in range(400):
        content = bytearray(whole)
        match number % 5:
            case 0:
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            case 1:
                del content[rng.randrange(len(content)) :]
            case 2:
                for _ in range(rng.randrange(1, 6)):
                    content[rng.randrange(directory, len(content))] = rng.randrange(256)
            case 3:
                at = rng.randrange(len(content))
                content[at : at + rng.randrange(40)] = rng.randbytes(rng.randrange(40))
            case 4:
                for _ in range(rng.randrange(2, 20)):
                    content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            read_checkpoint(path)
            check_checkpoint(path)
        except CheckpointFileError as error:
            found[type(error.__cause__).__name__] += 1
    assert found.total() > 250
    assert len(found) > 2


def test_checksums_of_a_file_are_compared_once(path, monkeypatch):
    compared = []
    damage = checks.damage_of_zip
    monkeypatch.setattr(
        reading, "damage_of_zip", lambda *args: compared.append(args) or damage(*args)
    )
    check_checkpoint(path)
    read_checkpoint(path)
    CheckpointLoader.load_checkpoint(str(path))
    assert len(compared) == 1
    torch.save(small(), path)
    read_checkpoint(path)
    assert len(compared) == 2


def history(*values: float) -> HistoryBuffer:
    buffer = HistoryBuffer(max_length=50)
    for value in values:
        buffer.update(value)
    return buffer


def test_what_mmengine_saves_is_read_as_it_was(path):
    """Compared with what reading it as a program gives."""
    hub = dict(log_scalars=dict(loss=history(2.0, 3.0)), runtime_info=dict(best=np.float64(0.5)))
    arrays = dict(
        f=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        i=np.arange(4, dtype=">i4"),
        names=np.array(["cat", "dog"]),
        empty=np.zeros((0, 3), np.float32),
        flag=np.True_,
    )
    meta = dict(dataset_meta=ConfigDict(classes=("cat",), more=dict(ids=[np.int64(3)])))
    torch.save({**small(), "message_hub": hub, "arrays": arrays, "meta": meta}, path)
    found, wanted = read_checkpoint(path), torch.load(path, weights_only=False)
    for name, array in wanted["arrays"].items():
        same = found["arrays"][name]
        assert type(same) is type(array), name
        assert (same.dtype, same.shape) == (array.dtype, array.shape)
        assert same.flags.f_contiguous == array.flags.f_contiguous
        assert np.array_equal(same, array)
    assert pickle.dumps(found["meta"]) == pickle.dumps(wanted["meta"])
    assert type(found["meta"]["dataset_meta"]) is ConfigDict
    loss = found["message_hub"]["log_scalars"]["loss"]
    assert type(loss) is HistoryBuffer
    assert loss.max_length == 50
    assert loss.statistics("mean") == 2.5
    loss.update(4.0)
    assert list(loss.data[0]) == [2.0, 3.0, 4.0]
    best = found["message_hub"]["runtime_info"]["best"]
    assert type(best) is np.float64
    assert best == 0.5


SCHEDULES = dict(
    ConstantLR=dict(factor=0.5),
    CosineAnnealingLR=dict(T_max=3),
    ExponentialLR=dict(gamma=0.9),
    LinearLR=dict(start_factor=0.1),
    MultiStepLR=dict(milestones=[1, 2]),
    OneCycleLR=dict(eta_max=1.0, total_steps=9),
    PolyLR=dict(power=0.9),
    ReduceOnPlateauLR=dict(monitor="loss"),
    StepLR=dict(step_size=2),
)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_states_of_schedules_are_data(path, kind):
    optimizer = SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    schedule = PARAM_SCHEDULERS.build(dict(type=kind, optimizer=optimizer, **SCHEDULES[kind]))
    state = schedule.state_dict()
    torch.save(dict(param_schedulers=[state], optimizer=optimizer.state_dict()), path)
    (found,) = read_checkpoint(path)["param_schedulers"]
    assert found == state
    if kind == "OneCycleLR":
        assert found["anneal_func"] is OneCycleParamScheduler._annealing_cos


class Call:
    """Pickles as a call of one of the names that are allowed, or of another one."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Redefined:
    """A data type whose state gives it fields, through which numpy would read memory as objects."""

    def __reduce__(self):
        fields = dict(a=(np.dtype("f8"), 0))
        return np.dtype, ("f8", False, True), (3, "<", None, ("a",), fields, 8, 1, 0)


PROGRAMS = dict(
    call=lambda target: Program(target),
    # Allowed by MMEngine, and enough to get at everything.
    getattr=lambda _: Call(getattr, HistoryBuffer, "__init__"),
    objects=lambda _: np.array([{}, ()], dtype=object),
    structured=lambda _: np.zeros(2, dtype=[("a", "f8")]),
    datatype=lambda _: Redefined(),
)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_pickle_that_asks_for_more_than_data_is_refused_unless_trusted(
    tmp_path, kind, legacy, monkeypatch
):
    lines = []
    monkeypatch.setattr(reading, "print_log", lambda line, **_: lines.append(line))
    path, target = tmp_path / "x.pth", tmp_path / "was-run"
    torch.save({**small(), "note": PROGRAMS[kind](target)}, path, **(LEGACY if legacy else {}))
    for read in (read_checkpoint, read_weights, check_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(UntrustedCheckpointError, match="with --trust-checkpoint"):
            read(str(path))
    assert not target.exists()
    with trusting():
        assert is_trusting()
        assert torch.equal(read_checkpoint(path)["state_dict"]["n"], torch.arange(3))
    assert not is_trusting()
    assert "what it asks for is run" in lines[-1]
    assert target.exists() == (kind == "call")
    with pytest.raises(UntrustedCheckpointError):
        read_checkpoint(path)


def test_trust_is_no_licence_for_damage(path, tmp_path):
    put_program_in(path, tmp_path / "was-run")
    flip(path)
    with trusting(), pytest.raises(CheckpointFileError, match="checksum"):
        read_checkpoint(path)
    assert not (tmp_path / "was-run").exists()


def test_the_old_format_is_read_as_data_and_its_lack_of_checksums_said(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(reading, "print_log", lambda line, **_: lines.append(line))
    path = tmp_path / "swin_tiny.pth"
    torch.save({"model": small()["state_dict"]}, path, **LEGACY)
    assert torch.equal(read_weights(path)["state_dict"]["w"], torch.ones(100))
    assert "has no checksums" in lines[0]
    put_nan = {"model": {"w": torch.tensor(np.nan)}}
    torch.save(put_nan, path, **LEGACY)
    assert "1 values of w are not finite" in reason(path)


def test_mmengine_has_no_other_way_to_read(path):
    assert all(
        CheckpointLoader._get_checkpoint_loader(address).__module__.startswith("rarts_mm.")
        for address in ("x.pth", "~/x.pth", "https://a/x.pth", "s3://x", "pavi://x", "mmcls://x")
    )
    for address in ("s3://bucket/x.pth", "pavi://x", "mmcls://no_such_model"):
        with pytest.raises(CheckpointFileError, match=r"is not read from|no model of this name"):
            CheckpointLoader.load_checkpoint(address)
    # Text that Runner.resume would run as a config.
    content = small()
    content["meta"]["config"] = "raise SystemExit('run')"
    torch.save(content, path)
    assert CheckpointLoader.load_checkpoint(str(path))["meta"] == dict(epoch=1, iter=2)
