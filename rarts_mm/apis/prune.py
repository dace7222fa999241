"""From a finished search to a smaller model: rank, slice, prove, write."""

import copy
import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from rarts_mm.analysis import CostTable, ResultsTable, compare_costs, plot_widths
from rarts_mm.files import atomic_write, digest, write_text
from rarts_mm.invocation import spelled
from rarts_mm.locks import LOCK, locked
from rarts_mm.temporary import remove_abandoned
from rarts_mm.widths import Proof, Unit, prove_slicing, pruned_config, slice_network
from rarts_mm.widths.flow.record import Cut
from rarts_mm.widths.pruned import without_pretrained
from rarts_mm.widths.slicing import group_cut
from rarts_mm.widths.unit import SELECTION

from .config_files import config_text
from .configs import plain_config
from .distill import distill_config
from .errors import UsageError
from .input_size import input_size
from .iterations import refuse_endless
from .plans import Plan, Ranking, make_plans, needs_no_scores
from .search_checkpoint import Search, load_search
from .targets import SCORES, Target, parse_target
from .validation import check_config

RECORD = "widths.json"


@dataclass
class Pruned:
    """One pruned model and the files that hold it.

    Attributes:
        folder: where ``pruned.py``, ``pruned.pth``, ``widths.json`` and ``widths.png`` are, and
            ``distill.py`` and ``scratch.py`` if asked for.
        plan: what was asked for and what stayed.
        proof: how far sliced and masked network are apart.
        costs: parameters and FLOPs before and after.
        configs: the configs that can be trained.
    """

    folder: Path
    plan: Plan
    proof: Proof
    costs: CostTable
    configs: list[Path]

    @property
    def summary(self) -> str:
        """Cost and proof in one line."""
        whole = self.costs.whole
        parameters, flops = (
            f"{after / max(before, 1):.1%} of the {name}"
            for name, before, after in (
                ("parameters", whole.parameters_before, whole.parameters_after),
                ("FLOPs", whole.flops_before, whole.flops_after),
            )
        )
        return f"{parameters} and {flops} remain; sliced = masked to {self.proof.error:.0e}"

    def print(self) -> None:
        """Say what was done, and what comes next."""
        self.costs.print(title=self.plan.target.title)
        if (table := self.plan.agreement_table()) is not None:
            table.print()
        print(self.plan)
        print(self.proof)
        names = [path.name for path in self.configs]
        print(f"wrote {self.folder}/{', '.join([*names, 'pruned.pth', RECORD, 'widths.png'])}")
        for path in self.configs:
            print(f"next: {spelled('train')} {shlex.quote(str(path))}")


@dataclass(frozen=True)
class Extras:
    """What is written besides ``pruned.py``.

    Attributes:
        distill: config and checkpoint of a teacher, for ``distill.py``.
        scratch: whether to write ``scratch.py``, the same architecture with random weights in the
            schedule of the baseline.
        tables: how the target was chosen, by the files' name.
    """

    distill: tuple[str, str] | None = None
    scratch: bool = False
    tables: Mapping[str, ResultsTable] = field(default_factory=dict)


def prune(
    config: str | Path,
    checkpoint: str | Path,
    targets: Sequence[Target | float],
    out: str | Path | None = None,
    keep: str | None = None,
    how: Ranking | None = None,
    extras: Extras | None = None,
    options: dict | None = None,
) -> list[Pruned]:
    """Prune a search to one or more targets and write each result.

    Args:
        config: the search's config.
        checkpoint: a checkpoint of the search; where nothing is ranked by what was learned, also one of
            the plain architecture.
        targets: what is asked for; a number is a share of all scores to remove, in (0, 1).
        out: folder for the result, for several targets the folder that gets one folder each; defaults
            to ``pruned_<percent>`` or the like beside the checkpoint.
        keep: which weights go on: ``'auxiliary'``, ``'primary'`` or ``'mean'``.
        how: how dimensions are ranked and kept.
        extras: what is written besides.
        options: settings of the config to override.

    Raises:
        UsageError: for bad input; nothing has been written then.
        FolderInUseError: another process writes into a folder of the result.
        ProofError: a sliced network differs from the masked one; it has not been written.
        BudgetError: it costs more than asked for; it has not been written.
    """
    how, extras = how or Ranking(), extras or Extras()
    targets = list(dict.fromkeys(parse_target(SCORES, target) for target in targets))
    if not targets:
        raise UsageError("nothing to prune to; for example --ratio 0.4")
    search = load_search(config, checkpoint, keep, options, plain=needs_no_scores(how, targets))
    size = how.input_size or input_size(search.cfg)
    source = dict(
        config=str(config),
        checkpoint=str(checkpoint),
        sha256=digest(checkpoint),
        keep=search.keep,
        ranking=asdict(how),
    )
    folders = _folders(Path(checkpoint).parent, out, targets, how)
    sources = {target: dict(source, target=target.arguments) for target in targets}
    for target in targets:
        _check_folder(folders[target], sources[target])
    # Every target must be possible before the first is written.
    plans = make_plans(search, targets, how)
    texts = {target: _texts(search, plans[target], extras, sources[target]) for target in targets}
    with ExitStack() as locks:
        for folder in folders.values():
            locks.enter_context(locked(folder))
        for target in targets:
            _check_folder(folders[target], sources[target])
        return [
            _prune_one(
                search,
                plans[target],
                folders[target],
                sources[target],
                texts[target],
                size,
                extras.tables,
            )
            for target in targets
        ]


def _folders(
    beside: Path, out: str | Path | None, targets: Sequence[Target], how: Ranking
) -> dict[Target, Path]:
    if out is not None and len(targets) == 1:
        return {targets[0]: Path(out)}
    parent = beside if out is None else Path(out)
    return {target: parent / folder_name(target, how) for target in targets}


def folder_name(target: Target, how: Ranking) -> str:
    """``pruned_40`` for 40 % of the scores, ``pruned_flops_300G_round8``, and so on."""
    return target.folder + how.suffix


def _check_folder(folder: Path, source: dict) -> None:
    """A folder may be written if it is empty, or holds this very pruning."""
    if not folder.exists():
        return
    if folder.is_dir():
        remove_abandoned(folder, f".{Path(RECORD).stem}-", Path(RECORD).suffix)
        if all(path.name == LOCK for path in folder.iterdir()):
            return
    record = folder / RECORD
    try:
        there = _identity(json.loads(record.read_text())["source"]) if record.is_file() else None
    except (ValueError, KeyError, TypeError):
        there = None
    # As it would be read again: JSON has no tuples.
    wanted = _identity(json.loads(json.dumps(source)))
    if there == wanted:
        return
    what = "other files"
    if there is not None:
        differing = [
            f"{'' if key == 'target' else key} {value}".strip()
            for key, value in there.items()
            if key != "sha256" and value != wanted.get(key)
        ]
        what = f"another pruning ({', '.join(differing) or 'of another checkpoint'})"
    raise UsageError(
        f"{folder} holds {what}; choose another folder with --out DIR, or remove that one"
    )


def _identity(source: dict) -> dict:
    """What makes a pruning the same one."""
    same = {key: source[key] for key in ("sha256", "keep")}
    # What older versions had no option for was done as is the default now.
    ranking = json.loads(json.dumps(asdict(Ranking()))) | source["ranking"]
    return same | {"target": " ".join(source["target"]), **ranking}


def _texts(search: Search, plan: Plan, extras: Extras, source: dict) -> dict[str, str]:
    """The configs to write, as text by file name, ``pruned.py`` last; each works beside itself."""
    units, _ = search.model.space.units(search.network)
    selections = {unit.name for unit in units if unit.kind == SELECTION}
    cut = group_cut(search.network, plan.kept)
    pruned = finetune_config(search.cfg, plan.kept, selections, cut)
    start = dict(load_from="pruned.pth")
    configs = {}
    if extras.distill is not None:
        taught = distill_config(pruned, *extras.distill)
        configs["distill.py"] = taught, dict(start, work_dir="distill")
    if extras.scratch:
        fresh = scratch_config(search.cfg, plan.kept, selections, cut)
        configs["scratch.py"] = fresh, dict(work_dir="scratch")
    configs["pruned.py"] = pruned, dict(start, work_dir="finetune")
    texts = {}
    for name, (cfg, beside) in configs.items():
        cfg.pruning = {k: v for k, v in source.items() if k not in ("config", "sha256")}
        texts[name] = config_text(cfg, beside)
    return texts


def _prune_one(
    search: Search,
    plan: Plan,
    folder: Path,
    source: dict,
    texts: dict[str, str],
    size: tuple[int, int],
    tables: Mapping[str, ResultsTable],
) -> Pruned:
    scored, kept = search.network, plan.kept
    sliced = slice_network(copy.deepcopy(scored), kept)
    size = tuple(source["ranking"]["input_size"] or input_size(search.cfg))
    plan.check(sliced, size)
    proof = prove_slicing(scored, kept, sliced)
    units, _ = search.model.space.units(scored)
    costs = compare_costs(scored, sliced, size, units=units)

    # First, as it says whose folder this is if the rest is interrupted.
    record = _record(units, plan, source, proof, costs)
    write_text(folder / RECORD, json.dumps(record, indent=1))
    # Into an open file: given a path, torch says nothing of a disk that is full.
    with atomic_write(folder / "pruned.pth") as path, open(path, "wb") as file:
        torch.save({"meta": _meta(search, source), "state_dict": _plain_state(sliced)}, file)
    sizes = {unit.name: unit.size for unit in units}
    widths = {name: len(index) for name, index in kept.items()}
    plot_widths(
        sizes,
        {plan.target.title: widths},
        folder / "widths.png",
        kinds={unit.name: unit.kind for unit in units},
    )
    for name, table in tables.items():
        table.write(folder / name)
    # Last, as whoever finds a config may rely on the rest.
    for name, text in texts.items():
        write_text(folder / name, text)
    return Pruned(folder, plan, proof, costs, [folder / name for name in reversed(texts)])


def finetune_config(
    search: Config,
    kept: dict[str, Tensor],
    selections: Collection[str] = (),
    cut: Cut | None = None,
) -> Config:
    """The self-contained config that builds, fine-tunes and tests a pruned model.

    Where it starts from and works is added where it is written.
    """
    cfg = plain_config(search, "finetune")
    refuse_endless(cfg, "finetune")
    cfg.model = pruned_config(cfg.model.to_dict(), kept, selections, cut)
    return cfg


def scratch_config(
    search: Config,
    kept: dict[str, Tensor],
    selections: Collection[str] = (),
    cut: Cut | None = None,
) -> Config:
    """The config that trains a pruned model's architecture from random weights.

    In the schedule of the baseline: what the pruned weights are worth (Liu et al., "Rethinking the
    Value of Network Pruning", ICLR 2019). Nothing in it is loaded.

    Raises:
        UsageError: parts of the model are frozen, which would leave their random weights as they are.
    """
    cfg = plain_config(search, "baseline")
    check_config(cfg, "baseline")
    refuse_endless(cfg, "baseline")
    if frozen := [path for path, value in _items(cfg.model, "frozen_stages") if value >= 0]:
        keys = [f"model.architecture{path}" for path in frozen]
        options = " ".join(f"{key}.frozen_stages=-1 {key}.norm_eval=False" for key in keys)
        raise UsageError(
            f"--scratch: {', '.join(keys)} has frozen stages, whose random weights would stay as they "
            f"are; add --cfg-options {options}"
        )
    model = without_pretrained(cfg.model.to_dict())
    cfg.model = pruned_config(model, kept, selections, cut)
    cfg.load_from = None
    return cfg


def _items(cfg: Any, key: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of ``key`` wherever it stands in a config."""
    if isinstance(cfg, Mapping):
        if cfg.get(key) is not None:
            yield path, cfg[key]
        for name, value in cfg.items():
            yield from _items(value, key, f"{path}.{name}")
    elif isinstance(cfg, list | tuple):
        for i, value in enumerate(cfg):
            yield from _items(value, key, f"{path}.{i}")


def _plain_state(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in network.state_dict().items()}


def _meta(search: Search, source: dict) -> dict:
    meta = {k: search.meta[k] for k in ("dataset_meta", "mmengine_version") if k in search.meta}
    return dict(meta, rarts_mm=source)


def _record(
    units: Sequence[Unit], plan: Plan, source: dict, proof: Proof, costs: CostTable
) -> dict:
    kept = plan.kept
    return dict(
        source=source,
        plan=plan.to_dict(),
        scores=sum(unit.size for unit in units),
        removed=sum(unit.size - len(kept[unit.name]) for unit in units),
        units={
            unit.name: dict(kind=unit.kind, size=unit.size, kept=kept[unit.name].tolist())
            for unit in units
        },
        proof=asdict(proof),
        costs=costs.to_dict(),
    )
