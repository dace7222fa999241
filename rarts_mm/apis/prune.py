"""From a finished search to a smaller model: rank, slice, prove, write."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from rarts_mm.analysis import CostTable, compare_costs, plot_widths
from rarts_mm.files import digest, write_text, written_whole
from rarts_mm.widths import (
    Proof,
    Unit,
    find_units,
    importance,
    prove_slicing,
    pruned_config,
    rank_scores,
    slice_network,
)

from .configs import plain_config
from .errors import UsageError
from .input_size import input_size
from .search_checkpoint import Search, load_search

RECORD = "widths.json"


@dataclass
class Pruned:
    """One pruned model and the files that hold it.

    Attributes:
        folder: where ``pruned.py``, ``pruned.pth``, ``widths.json`` and ``widths.png`` are.
        ratio: share of the scores that went.
        kept: unit name -> sorted indices of the dimensions that stayed.
        proof: how far sliced and masked network are apart.
        costs: parameters and FLOPs before and after.
    """

    folder: Path
    ratio: float
    kept: dict[str, Tensor]
    proof: Proof
    costs: CostTable


def check_ratio(ratio: float) -> float:
    """Raise unless a pruning ratio is a number inside (0, 1)."""
    try:
        value = float(ratio)
    except (TypeError, ValueError):
        raise UsageError(f"--ratio must be a number such as 0.4, got {ratio!r}") from None
    if not 0 < value < 1:
        raise UsageError(
            f"--ratio is the share of scores to remove and must lie strictly between 0 and 1, "
            f"got {ratio}; for 40 % write 0.4"
        )
    return value


def folder_name(ratio: float) -> str:
    """``pruned_40`` for 0.4, ``pruned_37.5`` for 0.375."""
    return f"pruned_{100 * ratio:g}"


def prune(
    config: str | Path,
    checkpoint: str | Path,
    ratios: Sequence[float],
    out: str | Path | None = None,
    keep: str | None = None,
    min_keep: int = 1,
    options: dict | None = None,
    criterion: str = "alpha",
    seed: int = 0,
) -> list[Pruned]:
    """Prune a search at one or more ratios and write each result.

    Args:
        config: the search's config.
        checkpoint: a checkpoint of the search.
        ratios: shares of all scores to remove, each in (0, 1).
        out: folder for the result, for several ratios the folder that gets one folder each; defaults
            to ``pruned_<percent>`` beside the checkpoint.
        keep: which weights go on: ``'auxiliary'``, ``'primary'`` or ``'mean'``.
        min_keep: floor: dimensions that every layer keeps.
        options: settings of the config to override.
        criterion: what the dimensions are ranked by, a key of
            :data:`~rarts_mm.widths.CRITERIA`.
        seed: of the criterion ``'random'``; the others do not read it.

    Raises:
        UsageError: for bad input; nothing has been written then.
        ProofError: a sliced network differs from the masked one; it has not been written.
    """
    ratios = list(dict.fromkeys(check_ratio(r) for r in ratios))
    if not ratios:
        raise UsageError("no ratio given; for example --ratio 0.4")
    search = load_search(config, checkpoint, keep, options)
    source = dict(
        config=str(config),
        checkpoint=str(checkpoint),
        sha256=digest(checkpoint),
        keep=search.keep,
        min_keep=min_keep,
        criterion=criterion,
    )
    if criterion == "random":
        source["seed"] = seed
    folders = _folders(Path(checkpoint).parent, out, ratios)
    for ratio in ratios:
        _check_folder(folders[ratio], dict(source, ratio=ratio))
    # Every ratio must be possible before the first is written.
    plans = rank(search, ratios, min_keep, criterion, seed)
    return [
        _prune_one(search, ratio, plans[ratio], folders[ratio], dict(source, ratio=ratio))
        for ratio in ratios
    ]


def rank(
    search: Search, ratios: Sequence[float], min_keep: int, criterion: str, seed: int
) -> dict[float, dict[str, Tensor]]:
    """Ratio -> unit name -> indices of the dimensions to keep; see :func:`prune`."""
    try:
        scores = importance(search.model.kept, criterion, seed)
        return {ratio: rank_scores(scores, ratio, min_keep) for ratio in ratios}
    except ValueError as error:
        raise UsageError(str(error)) from error


def _folders(beside: Path, out: str | Path | None, ratios: Sequence[float]) -> dict[float, Path]:
    if out is not None and len(ratios) == 1:
        return {ratios[0]: Path(out)}
    parent = beside if out is None else Path(out)
    return {ratio: parent / folder_name(ratio) for ratio in ratios}


def _check_folder(folder: Path, source: dict) -> None:
    """A folder may be written if it is empty, or holds this very pruning."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    record = folder / RECORD
    try:
        same = json.loads(record.read_text())["source"] if record.is_file() else None
    except (ValueError, KeyError):
        same = None
    identity = ("sha256", "keep", "min_keep", "ratio", "criterion", "seed")
    if same is not None:
        # Records from before there was a choice.
        same.setdefault("criterion", "alpha")
    if same is None or any(same.get(k) != source.get(k) for k in identity):
        what = "other files"
        if same:
            differing = [f"{k}={same.get(k)}" for k in identity[1:] if same.get(k) != source.get(k)]
            what = f"another pruning ({', '.join(differing) or 'of another checkpoint'})"
        raise UsageError(
            f"{folder} holds {what}; choose another folder with --out DIR, or remove that one"
        )


def _prune_one(
    search: Search, ratio: float, kept: dict[str, Tensor], folder: Path, source: dict
) -> Pruned:
    scored = search.model.kept
    sliced = slice_network(copy.deepcopy(scored), kept)
    proof = prove_slicing(scored, kept, sliced)
    units, _ = find_units(scored, search.model.space.include)
    costs = compare_costs(scored, sliced, input_size(search.cfg), units=units)
    config = finetune_config(search.cfg, kept)
    config.pruning = {k: v for k, v in source.items() if k not in ("config", "sha256")}

    with written_whole(folder / "pruned.pth") as path:
        torch.save({"meta": _meta(search, source), "state_dict": _plain_state(sliced)}, path)
    write_text(folder / RECORD, json.dumps(_record(units, kept, source, proof, costs), indent=1))
    sizes = {unit.name: unit.size for unit in units}
    plot_widths(
        sizes,
        {f"{100 * ratio:g} % pruned": {name: len(index) for name, index in kept.items()}},
        folder / "widths.png",
    )
    # Last, as whoever finds the config may rely on the rest.
    write_text(folder / "pruned.py", config.pretty_text)
    return Pruned(folder, ratio, kept, proof, costs)


def finetune_config(search: Config, kept: dict[str, Tensor]) -> Config:
    """The self-contained config that builds, fine-tunes and tests a pruned model.

    It starts from ``pruned.pth`` beside it and works in the folder ``finetune`` beside it.
    """
    cfg = plain_config(search, "finetune")
    cfg.model = pruned_config(cfg.model.to_dict(), kept)
    cfg.load_from = "{{ fileDirname }}/pruned.pth"
    cfg.work_dir = "{{ fileDirname }}/finetune"
    return cfg


def _plain_state(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in network.state_dict().items()}


def _meta(search: Search, source: dict) -> dict:
    meta = {k: search.meta[k] for k in ("dataset_meta", "mmengine_version") if k in search.meta}
    return dict(meta, rarts_mm=source)


def _record(
    units: Sequence[Unit], kept: dict[str, Tensor], source: dict, proof: Proof, costs: CostTable
) -> dict:
    return dict(
        source=source,
        scores=sum(unit.size for unit in units),
        removed=sum(unit.size - len(kept[unit.name]) for unit in units),
        units={
            unit.name: dict(kind=unit.kind, size=unit.size, kept=kept[unit.name].tolist())
            for unit in units
        },
        proof=asdict(proof),
        costs=costs.to_dict(),
    )
