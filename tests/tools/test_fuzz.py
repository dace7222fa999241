"""Random command lines of all tools: none ends in a traceback, and one that fails changes nothing."""

import functools
import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from rarts_mm.registry import ALTERNATIONS
from tests.conftest import CONFIGS, run_tool
from tests.datasets.imagenet import write_imagenet
from tests.tools.fuzzing import Files, Lines

# Command lines of each tool: 380 in all.
NUMBERS = dict(
    train=120,
    prune=50,
    compress=40,
    test=35,
    derive=20,
    make_digits=10,
    make_shapes=15,
    make_imagenet_subset=15,
    latency_table=15,
    latency_report=10,
    nats_lookup=10,
    solvable_model=20,
    sweep=20,
)
# Of a command line; the longest good ones take a few.
SECONDS = 300
LAUNCHERS = ("none", "slurm", "mpi", "pytorch", "x")
RANKING = {
    "--ratio": ("0.4", "auto", "1e-300", "0.999999"),
    "--params": ("0.6", "22M", "1e-9"),
    "--flops": ("0.6", "0.999999", "1T"),
    "--max-drop": ("0.5", "99"),
    "--metric": ("coco/segm_mAP", "x"),
    "--of": ("backbone", "model", "x"),
    "--input-size": 2,
    "--criterion": ("random", "magnitude", "x"),
    "--seed": ("0", "-1", str(2**64)),
    "--scope": ("layer", "x"),
    "--round-to": ("4", "1000"),
    "--min-keep": ("2", "1000"),
}


@pytest.fixture
def lines(request, small_config, tmp_path, monkeypatch) -> Lines:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith(("SLURM_", "OMPI_", "MASTER_", "RANK"))]:
        monkeypatch.delenv(name)
    files = Files(tmp_path / "odd")
    files.write()
    numbers = iter(range(10**6))
    return Lines(
        request.node.callspec.params["tool"],
        small_config,
        files,
        lambda: tmp_path / f"out{next(numbers)}",
    )


@pytest.fixture
def searched(search_run, tmp_path) -> tuple[Path, Path]:
    """Config and last checkpoint of a search in a folder of this test's own."""
    folder = tmp_path / "searched"
    shutil.copytree(search_run, folder)
    (folder / "last_checkpoint").write_text(str(folder / "epoch_2.pth"))
    return next(folder.glob("*.py")), folder / "epoch_2.pth"


def train(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield lines.file(small_config, odd=0.08)
    if lines.draw.random() < 0.3:
        yield from ("--work-dir", str(searched[1].parent))
        yield from lines.draw.choice(([], ["--resume"], ["--resume", lines.file(searched[1])]))
    else:
        yield from ("--work-dir", lines.file(lines.out(), odd=0.05))
    yield from lines.options({"--amp": None, "--auto-scale-lr": None, "--launcher": LAUNCHERS}, 1)
    yield from (*lines.cfg_options(), "train_cfg.max_epochs=1")[: lines.draw.choice((99, 99, -1))]


def prune(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield from (lines.file(searched[0], 0.1), lines.file(searched[1], 0.15))
    yield from ("--out", lines.file(lines.out(), 0.05))
    extras = {"--keep": ("primary", "mean"), "--scratch": None}
    yield from lines.options(RANKING | extras, 4)
    if lines.draw.random() < 0.1:
        yield from ("--distill", lines.file(small_config), lines.file(searched[1]))
    if lines.draw.random() < 0.4:
        yield from lines.cfg_options()


def compress(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield lines.file(small_config, 0.1)
    # Without a good checkpoint it ends before its first stage.
    yield from ("--checkpoint", lines.file("", 1), "--work-dir", lines.file(lines.out(), 0.1))
    yield from lines.options(RANKING | {"--control": None, "--distill": None, "--scratch": None}, 3)
    if lines.draw.random() < 0.5:
        yield "--ratio=0.4"
    if lines.draw.random() < 0.7:
        yield from lines.cfg_options()


def test(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield from (lines.file(searched[0], 0.1), lines.file(searched[1], 0.2))
    yield from ("--work-dir", lines.file(lines.out(), 0.05))
    outs = {
        "--out": ("x.txt", "new/x.pkl", "/dev/null/x.pkl"),
        "--show-dir": ("shown", "odd/empty"),
    }
    yield from lines.options(outs | {"--precise-bn": ("4",), "--launcher": LAUNCHERS}, 2)
    if lines.draw.random() < 0.6:
        yield from lines.cfg_options()


def derive(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield lines.file(searched[1].parent, 0.6)
    pools = {
        name: (lines.file(small_config),) for name in ("--network", "--checkpoint", "--latency")
    }
    yield from lines.options(pools | {"--out": (str(lines.out()),)})
    if lines.draw.random() < 0.5:
        yield from lines.cfg_options()


def make_digits(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield from ("--out", lines.file(lines.out(), 0.3))
    yield from lines.options({"--seed": ("0", "-1", str(2**32)), "--force": None})


def make_shapes(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield from ("--out", lines.file(lines.out(), 0.2))
    yield from lines.options({"--train": ("2",), "--val": ("2",), "--force": None}, 1)
    small = {
        "--size": ("32",),
        "--seed": ("7",),
        "--cue": ("0", "1.5"),
        "--classes": ("circle", "x"),
    }
    yield from lines.options(small, 2)


def make_imagenet_subset(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    root = tmp_path / "imagenet"
    if not root.exists():
        write_imagenet(root, {"a": 3, "b": 3}, {"a": 1, "b": 1})
    yield lines.file(root, 0.3)
    yield from ("--out", lines.file(lines.out(), 0.2))
    counts = {"--classes": ("2",), "--train": ("3", "all"), "--val": ("1", "all"), "--seed": ("1",)}
    others = {
        "--val-annotations": (lines.file("x"),),
        "--copy": None,
        "--link": None,
        "--force": None,
    }
    yield from lines.options(counts | others, 5)


def latency_table(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield lines.file(CONFIGS / "rarts_darts_digits.py", 0.3)
    yield from ("--out", lines.file(lines.out(), 0.2), f"--repeats={lines.value()}")
    sizes = {
        "--input-size": 1,
        "--batch-size": ("1",),
        "--threads": ("1",),
        "--device": ("cuda", "x"),
    }
    yield from lines.options(sizes, 2)
    yield from lines.cfg_options()


def latency_report(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield from (lines.file("DARTS_V2", 0.6), lines.file("", 1))
    yield from lines.options({"--repeats": ("1",), "--device": ("cpu", "x"), "--json": ("a.json",)})


def nats_lookup(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield lines.file("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 0.6)
    yield from lines.options({"--dataset": ("cifar100", "x"), "--path": (lines.file("x", 1),)})


def solvable_model(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    yield "--steps=20"
    weights = {f"--{name}": ("1", "10", "1e9") for name in ("lam", "beta", "eta", "momentum", "xi")}
    names = {"--alternation": (*ALTERNATIONS.module_dict, "x"), "--first": ("w", "x")}
    others = {"--coupling": ("decoupled", "x"), "--derivative": ("exact", "x"), "--start": 3}
    written = {"--plot": ("a.png", "a.x", "odd/folder"), "--json": ("a.json", "/dev/null/a")}
    yield from lines.options(weights | names | others | written | {"--steps": ("5",)}, 4)


def sweep(lines: Lines, small_config, searched, tmp_path) -> Iterator[str]:
    """Descriptions of everything but what would train for long."""

    def value(right: object) -> object:
        odd = (lines.value(), lines.draw.choice((None, 3, [], {}, [[1]], -1.5)), str(lines.out()))
        return right if lines.draw.random() < 0.7 else lines.draw.choice(odd)

    def key(right: str) -> str:
        return right if lines.draw.random() < 0.7 else lines.value()

    content = dict(
        tool=value("train"),
        config=value(str(small_config)),
        work_dir=value(str(lines.out())),
        arguments=value("--amp"),
        options=value({"optim_wrapper.lam": value(1.0)}),
        grid=value({key("randomness.seed"): value([0, value(1)]), key("--amp"): [True]}),
        slurm=value({key("partition"): value("gpu"), "parallel": value(2)}),
    )
    for name in lines.draw.sample(sorted(content), lines.draw.randint(0, 3)):
        del content[name]
    spec = lines.out().with_suffix(".yaml")
    spec.write_text(yaml.safe_dump(content))
    yield lines.file(spec, 0.1)
    yield lines.draw.choice(("--list", "--merge", "--slurm"))
    yield from lines.options({"--jobs": ("2",), "--job": ("0",)}, 1)


DRAWN: dict[str, Callable[..., Iterator[str]]] = {
    function.__name__: function
    for function in (
        *(train, prune, compress, test, derive, make_digits, make_shapes, make_imagenet_subset),
        *(latency_table, latency_report, nats_lookup, solvable_model, sweep),
    )
}
# It draws command lines, and pytest shall not take it for a test.
del test


@functools.cache
def digest(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[Path, str]:
    """Of every file below; one that was not written since is not read again."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: digest(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def run(tool: str, arguments: list[str]) -> tuple[int | None, str | None]:
    """Run a command line; returns its status, and what is wrong with how it ended."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        status, _, err = run_tool(tool, *arguments)
    # Whatever it is, a command line must not end so.
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if "Traceback" in err:
        return status, f"a traceback in its error output: {err[-500:]}"
    if status and not err.strip():
        return status, f"status {status} without a word"
    return status, None if status in (0, 1, 2) else f"status {status}"


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("tool", NUMBERS)
def test_no_command_line_ends_in_a_traceback(tool, lines, small_config, searched, tmp_path):
    folder = searched[1].parent
    wrong = []
    for _ in range(NUMBERS[tool]):
        arguments = list(DRAWN[tool](lines, small_config, searched, tmp_path))
        before = digests(folder)
        status, problem = run(tool, arguments)
        after = digests(folder)
        changed = [path.name for path, there in before.items() if after.get(path) != there]
        if problem is not None:
            wrong.append(f"{problem}\n    {tool} {arguments}")
        elif status != 0 and changed:
            wrong.append(f"failed with {status}, and changed {changed}\n    {tool} {arguments}")
    assert not wrong, f"{len(wrong)} of {NUMBERS[tool]}:\n" + "\n".join(wrong)
