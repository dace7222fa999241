"""Measure a search network's operations, for the latency penalty."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

from rarts_mm.cells.latency_table import LatencyTable, measure_table
from rarts_mm.cells.places import find_search_network, identity_of
from rarts_mm.registry import MODELS
from rarts_mm.search import AUXILIARY
from rarts_mm.search.penalties.latency import differences

from .configs import is_search, read_config
from .errors import UsageError
from .input_size import searched_size
from .validation import check_search

DEVICES = ("cpu", "cuda")


def make_latency_table(
    config: str | Path,
    device: str = "cpu",
    out: str | Path | None = None,
    batch: int = 1,
    size: Sequence[int] | None = None,
    repeats: int = 30,
    threads: int | None = None,
    options: dict | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[LatencyTable, Path]:
    """Measure the operations of a config's search network and write the table.

    Args:
        config: of a topology search.
        device: ``'cpu'`` or ``'cuda'``.
        out: the JSON file; default: ``work_dirs/latency/<config>_<device>.json``.
        batch: images at a time.
        size: height and width of the images; default: what the config trains on.
        repeats: timed rounds.
        threads: of torch on a CPU; default: as many as it takes by itself.
        options: settings of the config to override.
        progress: called with the number of finished rounds, and of all.

    Returns:
        The table and its file.

    Raises:
        UsageError: no topology search, no such device, a size that is unknown or does not fit, a table
            of other settings at the default place.
    """
    _check_numbers(batch, repeats, size)
    check_device(device)
    cfg = read_config(config, options)
    network = _search_network(cfg, str(config)).to(device)
    size = tuple(size) if size else searched_size(cfg)
    if size is None:
        raise UsageError(
            f"{config} does not say how large its images are (no transform of train_dataloader fixes a "
            "size); give it: --input-size 32"
        )
    asked = out is not None
    out = Path(out or Path("work_dirs", "latency", f"{Path(config).stem}_{device}.json"))
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; give the name of a JSON file")
    with torch_threads(threads):
        if out.is_file() and not asked:
            _check_same(out, network, size, batch)
        try:
            table = measure_table(network, size, batch, repeats, progress=progress)
        except ValueError as error:
            raise UsageError(str(error)) from error
    table.write(out)
    return table, out


def check_device(device: str) -> None:
    """Raise unless torch can compute there."""
    if device not in DEVICES:
        raise UsageError(f"--device {device}: choose one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda: torch sees no GPU here (torch.cuda.is_available() is False); measure on the "
            "machine that has it, or with --device cpu"
        )


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """So many threads of torch inside, as many as before outside; None: no change."""
    if number is not None and number < 1:
        raise UsageError(f"--threads {number}: give at least 1")
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_numbers(batch: int, repeats: int, size: Sequence[int] | None) -> None:
    for name, value in (("batch-size", batch), ("repeats", repeats)):
        if value < 1:
            raise UsageError(f"--{name} {value}: give at least 1")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UsageError(
            f"--input-size {' '.join(map(str, size))}: give a side in pixels, or height and width, from "
            "1 on"
        )


def _check_same(path: Path, network: nn.Module, size: tuple[int, int], batch: int) -> None:
    """The table that lies at the default place must be of the same settings to be measured anew."""
    try:
        table = LatencyTable.read(path)
        odd = differences(table.network, identity_of(network, size))
    except ValueError as error:
        odd = str(error)
    else:
        for name, here in (("batch_size", batch), ("threads", torch.get_num_threads())):
            if (there := table.measured[name]) != here:
                odd += f"{'; ' * bool(odd)}{name}: {there} in the table, {here} here"
    if odd:
        raise UsageError(
            f"{path} holds another measurement ({odd}); write elsewhere with --out FILE, or remove it"
        )


def _search_network(cfg: Config, name: str) -> nn.Module:
    wanted = "a latency table is of the operations of a cell search"
    if not is_search(cfg):
        raise UsageError(
            f"{name} searches nothing: its model is no rarts_mm.SearchModel; {wanted}, such as "
            "configs/rarts_darts_cifar10.py"
        )
    check_search(cfg)
    model = dict(cfg.model, networks=1, keep=AUXILIARY)
    if cfg.get("data_preprocessor") is not None:
        model.setdefault("data_preprocessor", cfg.data_preprocessor)
    network = find_search_network(MODELS.build(model))
    if network is None:
        kind = (cfg.model.get("space") or {}).get("type", "WidthSpace")
        raise UsageError(
            f"{name} has no cells: it searches a {kind}; {wanted}, such as "
            "configs/rarts_darts_cifar10.py"
        )
    return network
