"""What pruning saves, and how much of the whole model that is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from torch import nn

from rarts_mm.widths.scores import EVERYWHERE, locate
from rarts_mm.widths.unit import Unit

from .complexity import WHOLE, Complexity, count_flops
from .tables import COUNT, ResultsTable, count_format

# Below this share of the whole model's multiply-adds, what pruning can save is small.
SMALL_SHARE = 0.2

PRUNED_PART = "pruned part"


@dataclass(frozen=True)
class Cost:
    """One row: a part of the model, before and after.

    Attributes:
        name: Path of the part; ``whole model``, or ``pruned part`` for the layers that carry units.
        parameters_before, parameters_after: Its parameters.
        flops_before, flops_after: Its multiply-adds for one image.
        share_before, share_after: Its share of the whole model's multiply-adds, in [0, 1].
    """

    name: str
    parameters_before: int
    parameters_after: int
    flops_before: int
    flops_after: int
    share_before: float
    share_after: float


@dataclass(frozen=True)
class CostTable:
    """Parameters and multiply-adds of a model and its parts, before and after pruning.

    Attributes:
        size: Height and width of the image, in pixels.
        rows: The whole model, its parts, their stages, and last the pruned part: the layers that get
            smaller with the units, with the attention products.
        notes: Further sentences about the count.
    """

    size: tuple[int, int]
    rows: tuple[Cost, ...]
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> Cost:
        """The whole model."""
        return self.rows[0]

    @property
    def pruned_part(self) -> Cost:
        """The layers that carry units."""
        return self.rows[-1]

    @property
    def is_small(self) -> bool:
        """Whether the pruned part is too small a share of the model to change its cost much."""
        return self.pruned_part.share_before < SMALL_SHARE

    def sentence(self) -> str:
        """The pruned part's share of the whole model's cost, with a warning when it is small."""
        whole, part = self.whole, self.pruned_part
        # Zero only for a model without any product, such as an empty one.
        weights = part.parameters_before / max(whole.parameters_before, 1)
        saved = (whole.flops_before - whole.flops_after) / max(whole.flops_before, 1)
        write = count_format(whole.flops_before)
        text = (
            f"The pruned part holds {part.share_before:.1%} of the whole model's FLOPs "
            f"({write(part.flops_before)} of {write(whole.flops_before)}) and "
            f"{weights:.1%} of its parameters; this pruning saves {saved:.1%} of all FLOPs."
        )
        if self.is_small:
            text = (
                f"NOTE: a small part. {text} 40 % fewer dimensions in each layer here are "
                f"{0.4 * part.share_before:.1%} of the whole, and no pruning here can save more "
                f"than {part.share_before:.1%}."
            )
        return text

    def table(self, title: str = "") -> ResultsTable:
        """The table, formatted for people."""
        height, width = self.size
        columns = {
            "part": None,
            "params before": COUNT,
            "params after": COUNT,
            "FLOPs before": COUNT,
            "FLOPs after": COUNT,
            "share before": "%",
            "share after": "%",
        }
        rows = [list(asdict(row).values()) for row in self.rows]
        sizes = (
            f"FLOPs are multiply-adds of convolutions, linear layers and attention products for "
            f"one image of {height} x {width} pixels (height x width); shares are of the whole "
            "model's FLOPs."
        )
        return ResultsTable(columns, rows, title, [self.sentence(), sizes, *self.notes])

    def print(self, title: str = "", console: Console | None = None) -> None:
        """Write the table and its sentences to the screen, or to ``console``."""
        self.table(title).print(console)

    def markdown(self, title: str = "") -> str:
        """The table and its sentences in Markdown."""
        return self.table(title).markdown()

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "size": list(self.size),
            "rows": [asdict(row) for row in self.rows],
            "sentence": self.sentence(),
            "notes": list(self.notes),
        }


def compare_costs(
    before: nn.Module, after: nn.Module, size: tuple[int, int], units: Sequence[Unit]
) -> CostTable:
    """Count a model before and after pruning.

    Args:
        before: The model before, with or without scores, which cost nothing here.
        after: The same model, pruned.
        size: Height and width of the image, in pixels; see :func:`count_flops`.
        units: The units of ``before`` that were scored.

    Raises:
        ValueError: There are no units, a unit is not in ``before``, or the models do not run at
            ``size``.
    """
    if not units:
        raise ValueError("There are no units, so no part of the model was pruned.")
    paths = _layers_of(before, units)
    names = {unit.name for unit in units}
    stages = [s for s in dict.fromkeys(u.stage for u in units) if s not in names]
    counts = count_flops(before, size), count_flops(after, size)

    parts = []
    for name, _ in before.named_children():
        if any(count.parameters.get(name) or count.flops.get(name) for count in counts):
            parts.append(name)
            parts += [stage for stage in stages if stage.startswith(f"{name}.")]
    parts += [stage for stage in stages if stage not in parts and stage in counts[0].parameters]
    rows = [_cost("whole model", [WHOLE], *counts)]
    rows += [_cost(part, [part], *counts) for part in parts]
    rows.append(_cost(PRUNED_PART, paths, *counts))
    return CostTable(counts[0].size, tuple(rows), tuple(_notes(counts[0])))


def _layers_of(model: nn.Module, units: Sequence[Unit]) -> list[str]:
    """Paths of the layers that get smaller with the units, each once."""
    sites = {site.unit.name: site for site in locate(model, EVERYWHERE)[0]}
    paths = {}
    for unit in units:
        if unit.name not in sites:
            raise ValueError(
                f"The {type(model).__name__} before pruning has no unit {unit.name!r}."
            )
        site = sites[unit.name]
        for layer in site.adapter.layers(site.host):
            paths[".".join(filter(None, (site.path, layer)))] = None
    return list(paths)


def _cost(name: str, paths: Sequence[str], before: Complexity, after: Complexity) -> Cost:
    flops = [sum(count.flops.get(path, 0) for path in paths) for count in (before, after)]
    return Cost(
        name,
        *(sum(count.parameters.get(path, 0) for path in paths) for count in (before, after)),
        *flops,
        # A model without any product has nothing to share.
        *(flop / max(count.total, 1) for flop, count in zip(flops, (before, after), strict=True)),
    )


def _notes(count: Complexity) -> list[str]:
    notes = []
    if count.proposals:
        boxes = " and ".join(f"{n} boxes ({kind})" for kind, n in count.proposals.items())
        notes.append(f"The heads of the second stage are counted on {boxes}.")
    if count.not_run:
        shown = ", ".join(count.not_run[:3])
        more = f" and {len(count.not_run) - 3} more" if len(count.not_run) > 3 else ""
        notes.append(f"Not run in the forward pass, so not in the FLOPs: {shown}{more}.")
    return notes
