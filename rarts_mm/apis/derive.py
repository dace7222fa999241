"""From a finished topology search to the network that is trained next."""

import copy
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from rarts_mm.analysis import ResultsTable
from rarts_mm.cells import NATSArchitecture
from rarts_mm.cells.architecture import (
    PICTURES,
    Architecture,
    as_json,
    save_architecture,
)
from rarts_mm.cells.latency_table import LatencyTable
from rarts_mm.cells.nats import LookUp, LookUpUnavailable
from rarts_mm.engine import last_saved
from rarts_mm.files import write_text
from rarts_mm.invocation import spelled
from rarts_mm.locks import locked
from rarts_mm.registry import SPACES

from .config_files import config_text
from .configs import prepare_registries
from .errors import UsageError
from .finding import Saved, searches, space_class
from .latency_report import LatencyReport, latency_report
from .latency_table import check_device
from .retraining import CIFAR, cifar_name, network_costs, retraining_config
from .search_checkpoint import read_checkpoint

LAST, BEST = "last", "best"
RETRAIN, LATENCY = "retrain.py", "latency.json"


@dataclass
class Derived:
    """A derived architecture and the files that hold it.

    Attributes:
        architecture: a :class:`~rarts_mm.cells.genotype.Genotype`, or another space's architecture.
        folder: where ``genotype.json``, ``genotype.txt``, the pictures and ``retrain.py`` are.
        files: their names, of those that were written.
        checkpoint: the search's.
        epoch: number of the search's epochs behind it; None if the checkpoint does not say.
        costs: see :func:`~rarts_mm.apis.retraining.network_costs`; empty if there is no network.
        looked_up: for an architecture of NATS-Bench, what the benchmark says of it, or why not.
        latency: predicted and measured, of the cells at the search's size, or why it is not; None if
            there is no latency table.
    """

    architecture: Architecture
    folder: Path
    files: list[str]
    checkpoint: Path
    epoch: int | None
    costs: dict[str, Any] = field(default_factory=dict)
    looked_up: str | None = None
    latency: LatencyReport | str | None = None

    def print(self) -> None:
        """Say what was derived, what it costs, and what comes next."""
        after = "" if self.epoch is None else f" (after epoch {self.epoch})"
        print(f"derived from {self.checkpoint}{after}:")
        print(self.architecture.text())
        shares = self.architecture.skip_shares
        each = ", ".join(f"{cell} {share:.1%}" for cell, share in shares.items())
        print(
            f"skip connections: {self.architecture.skip_share:.1%}"
            + (f" ({each})" * (len(shares) > 1))
        )
        if self.looked_up is not None:
            print(self.looked_up)
        if self.costs:
            row = {k: v for k, v in self.costs.items() if k != "size"}
            notes = ["auxiliary parameters are there in training only"]
            if "size" in self.costs:
                height, width = self.costs["size"]
                notes.append(f"multiply-adds of one image of {height} x {width} pixels")
            else:
                notes.append(
                    "no multiply-adds: neither config names data, which say the images' size"
                )
            ResultsTable(
                dict.fromkeys(row, "{:,}".format),
                [row],
                title="The network to train",
                notes=["; ".join(notes)],
            ).print()
        if self.latency is not None:
            if isinstance(self.latency, LatencyReport):
                print("latency at the size of the search:")
            print(self.latency)
        print(f"wrote {self.folder}/{', '.join(self.files)}")
        if RETRAIN in self.files:
            print(f"next: {spelled('train')} {shlex.quote(str(self.folder / RETRAIN))}")


def derive(
    search_dir: str | Path | None = None,
    network: str | None = None,
    checkpoint: str | Path = LAST,
    out: str | Path | None = None,
    options: dict | None = None,
    latency: str | Path | None = None,
) -> Derived:
    """Derive a search's architecture; write it, its picture and the config that trains it.

    Args:
        search_dir: work dir of the search; default: the newest topology search under ``work_dirs/``.
        network: ``'cifar'`` (default), ``'imagenet'`` or the path of a retraining config.
        checkpoint: ``'last'``, ``'best'`` (by validation, ``best_*.pth``) or a checkpoint's path.
        out: where to write; default: ``derived_<network>`` in the search's folder.
        options: settings of the retraining config to override.
        latency: a table of ``tools/latency_table.py``, from which the network's latency is predicted
            before it is measured; default: that of the search's latency penalty, if it is there.

    Raises:
        UsageError: for bad input; nothing has been written then.
    """
    saved = find_topology_search(search_dir)
    work_dir, search = saved.config.parent, saved.cfg
    path = _checkpoint(checkpoint, saved)
    content = read_checkpoint(path)
    architecture = _derive(search, content["state_dict"], path)
    try:
        cfg = retraining_config(architecture, network, search, options)
    except UsageError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(f"--network {network or CIFAR}: {error}") from error
    epoch = content.get("meta", {}).get("epoch")
    table, why_not = _latency_table(latency, search, architecture)
    texts = {}
    if cfg is not None:
        name = path.name if path.parent == work_dir else str(path.absolute())
        cfg.derived = dict(checkpoint=name, epoch=epoch)
        texts[RETRAIN] = config_text(cfg, beside=dict(work_dir=Path(RETRAIN).stem))
    is_last = str(checkpoint) == LAST or path.resolve() == Path(last_saved(work_dir)).resolve()
    folder = Path(out or work_dir / _folder_name(network, cfg, path, is_last))
    with locked(folder):
        _check_folder(folder, architecture, texts)
        costs = {} if cfg is None else network_costs(cfg, search)
        files = save_architecture(architecture, folder)
        # Last, as whoever finds a config may rely on the rest.
        for name, text in texts.items():
            write_text(folder / name, text)
        names = [*files, *texts]
        report: LatencyReport | str | None = why_not
        if table is not None:
            report = latency_report(architecture, table)
            write_text(folder / LATENCY, json.dumps(report.to_dict(), indent=1) + "\n")
            names.append(LATENCY)
    looked_up = _look_up(architecture, search)
    return Derived(architecture, folder, names, path, epoch, costs, looked_up, report)


def find_topology_search(search_dir: str | Path | None = None) -> Saved:
    """The newest topology search in a folder, or under ``work_dirs/``.

    Raises:
        UsageError: there is none; says so if there is a search of another kind.
    """
    root = Path("work_dirs" if search_dir is None else search_dir)
    if search_dir is not None and not root.is_dir():
        raise UsageError(f"SEARCH_DIR {root} is no folder; give the work dir of a search")
    found = searches(root)
    for saved in found.searches:
        if hasattr(space_class(saved.cfg), "derive"):
            found.print_passed(root)
            return saved
    if found.searches:
        first = found.searches[0]
        raise UsageError(
            f"{first.config.parent} holds a search in a {space_class(first.cfg).__name__}, which has "
            f"no operations to choose from; its widths are pruned: {spelled('prune')} "
            f"{first.config} {first.checkpoint()} --ratio 0.4"
        )
    raise UsageError(
        f"no search with a checkpoint under {root.absolute()}; run one ({spelled('train')} "
        f"configs/rarts_darts_cifar10.py) or name its work dir: {spelled('derive')} SEARCH_DIR"
        + found.notes()
    )


def _checkpoint(asked: str | Path, saved: Saved) -> Path:
    if str(asked) == LAST:
        return saved.checkpoint()
    work_dir = saved.config.parent
    folders = list(dict.fromkeys([work_dir, Path(last_saved(work_dir)).parent]))
    if str(asked) == BEST:
        for folder in folders:
            if found := sorted(folder.glob("best_*.pth"), key=lambda p: p.stat().st_mtime_ns):
                return found[-1]
        raise UsageError(
            f"--checkpoint best: {folders[-1]} has no best_*.pth; searches keep one with "
            "default_hooks.checkpoint.save_best='accuracy/top1'"
        )
    path = Path(asked)
    beside = [folder / path for folder in folders if (folder / path).is_file()]
    return beside[0] if beside and not path.is_file() else path


def _derive(search: Config, state: dict[str, Tensor], checkpoint: Path) -> Architecture:
    prefix = "alpha."
    alphas = {
        key.removeprefix(prefix).replace("/", "."): value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    if not alphas:
        raise UsageError(
            f"checkpoint {checkpoint} holds no scores (no entry alpha.*): it is none of a search; give "
            "one that the search has saved"
        )
    prepare_registries(search)
    try:
        return SPACES.build(search.model.space).derive(alphas)
    except ValueError as error:
        raise UsageError(
            f"checkpoint {checkpoint}: {error}. Give a checkpoint of the search in {search.filename}"
        ) from error


def _latency_table(
    asked: str | Path | None, search: Config, architecture: Architecture
) -> tuple[LatencyTable | None, str | None]:
    """The table that was asked for, or that of the search's penalty; without one, why there is none."""
    if asked is not None:
        return _read_table(asked, search, architecture), None
    penalties = (search.get("optim_wrapper") or {}).get("penalty") or []
    for penalty in penalties if isinstance(penalties, list) else [penalties]:
        file = penalty.get("latencies")
        if isinstance(file, str):
            try:
                return _read_table(file, search, architecture), None
            except UsageError as error:
                # Nobody asked for it here.
                return None, f"latency not measured: {error}"
    return None, None


def _read_table(path: str | Path, search: Config, architecture: Architecture) -> LatencyTable:
    try:
        table = LatencyTable.read(path)
        table.check(MODELS.build(copy.deepcopy(search.model.architecture)))
        table.predict(architecture)
        check_device(table.measured["device"].partition(":")[0])
    except ValueError as error:
        raise UsageError(f"--latency {path}: {error}") from error
    return table


def _look_up(architecture: Architecture, search: Config) -> str | None:
    """A sentence with the accuracy that NATS-Bench has measured, or with the reason why there is none."""
    if not isinstance(architecture, NATSArchitecture):
        return None
    dataset = (cifar_name(search) or "CIFAR10").lower()
    try:
        accuracy = LookUp().accuracy(architecture, dataset)
    except LookUpUnavailable as error:
        return f"accuracy not looked up: {error}"
    return f"NATS-Bench: {accuracy:.2f} % of {dataset}'s test images after 200 epochs"


def _folder_name(network: str | None, cfg: Config | None, checkpoint: Path, is_last: bool) -> str:
    name = "derived" if cfg is None else f"derived_{Path(network or CIFAR).stem}"
    return name if is_last else f"{name}_{checkpoint.stem}"


def _check_folder(folder: Path, architecture: Architecture, texts: dict[str, str]) -> None:
    """Files of ours that are there already must be of this very derivation."""
    wanted = {"genotype.json": as_json(architecture), "genotype.txt": architecture.text() + "\n"}
    wanted |= texts
    there = [name for name in (*wanted, *PICTURES) if (folder / name).exists()]
    foreign = [name for name in there if name in wanted and not _holds(folder / name, wanted[name])]
    if there and "genotype.json" not in there:
        foreign = there
    if foreign:
        raise UsageError(
            f"{folder} holds other files of these names ({', '.join(foreign)}); choose another folder "
            "with --out DIR, or remove them"
        )


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(errors="replace") == text
