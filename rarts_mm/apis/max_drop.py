"""How much can go before the accuracy falls by more than so many points: found by bisection."""

import math
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from rarts_mm.analysis import ResultsTable
from rarts_mm.progress import report

from .errors import UsageError
from .masked_evaluation import MaskedEvaluation
from .metrics import HEADLINES, metric_format, points_per_unit
from .plans import Ranking, make_plans, needs_no_scores
from .search_checkpoint import load_search
from .targets import SCORES, Target, parse_target

# Ratios are whole per cents: finer ones differ by less than an evaluation's noise.
_STEPS = 100


@dataclass(frozen=True)
class MaxDrop:
    """How far a validation metric may fall.

    Attributes:
        points: in points, hundredths of the metric's range: 0.5 allows a box AP of 0.653 to become
            0.648, a top-1 accuracy of 76.3 % to become 75.8 %. Of a metric whose range is not known,
            in its own unit.
        metric: as the evaluator names it, such as ``'coco/bbox_mAP'``; None: the usual one.

    Raises:
        UsageError: no finite number above 0.
    """

    points: float
    metric: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.points) or self.points <= 0:
            raise UsageError(
                f"--max-drop {self.points:g} must be a number of points above 0: 0.5 lets a box AP of "
                "0.653 become 0.648"
            )

    @property
    def arguments(self) -> list[str]:
        """The command line's arguments that ask for it."""
        return [
            *("--max-drop", f"{self.points:g}"),
            *(() if self.metric is None else ("--metric", self.metric)),
        ]


@dataclass
class Choice:
    """The ratio that was found.

    Attributes:
        target: the share of the scores to remove.
        table: every network that was evaluated.
        summary: the result in one line.
    """

    target: Target
    table: ResultsTable
    summary: str


@dataclass
class _Scale:
    """One metric, and what a drop of it is."""

    name: str
    worth: float
    sign: int
    whole: float = field(default=math.nan)

    def drop(self, value: float) -> float:
        """Points below the unpruned network; NaN counts as all there is."""
        drop = self.sign * (self.whole - value) * self.worth
        # The evaluator's digits are decimal: 0.653 - 0.648 is a little more than 0.005.
        return math.inf if math.isnan(drop) else round(drop, 9)


def choose_ratio(
    config: str | Path,
    checkpoint: str | Path,
    max_drop: MaxDrop,
    keep: str | None = None,
    how: Ranking | None = None,
    options: dict | None = None,
) -> Choice:
    """Find how large a share of the scores can go.

    Bisects the whole per cents: each step sets the lowest scores to zero and evaluates the network on the
    config's validation data, without fine-tuning. Six or seven evaluations, besides the unpruned network's, find
    a ratio that keeps to the drop while one per cent more does not; where the metric does not fall all
    the way, a larger one may keep to it, too.

    Args:
        config, checkpoint, keep, how, options: as for :func:`~rarts_mm.apis.prune`.
        max_drop: what is allowed.

    Raises:
        UsageError: no validation data; a metric that the evaluator does not give, or of which nobody
            says whether more is better; no ratio that keeps to the drop.
    """
    how = how or Ranking()
    search = load_search(config, checkpoint, keep, options, plain=needs_no_scores(how))
    with tempfile.TemporaryDirectory(prefix="max-drop-") as folder:
        evaluation = MaskedEvaluation(search, Path(folder), "--max-drop")
        metrics = evaluation()
        scale = _scale(search.cfg, metrics, max_drop.metric)
        scale.whole = metrics[scale.name]
        if math.isnan(scale.whole):
            raise UsageError(
                f"--max-drop: {scale.name} of the unpruned network is NaN on the validation data"
            )
        rows = [_row(scale, 0.0, metrics, max_drop)]
        _say(rows[0], scale)
        refused = []

        def keeps_to_it(percent: int) -> bool:
            ratio = percent / _STEPS
            if round(ratio * total) < 1:
                # Not one score goes.
                return True
            target = parse_target(SCORES, ratio)
            try:
                (plan,) = make_plans(search, [target], how).values()
            except UsageError as error:
                # More than the floors let go.
                refused.append(error)
                return False
            rows.append(_row(scale, ratio, evaluation(plan.kept), max_drop))
            _say(rows[-1], scale)
            return rows[-1]["kept to"] == "yes"

        total = sum(alpha.numel() for alpha in search.alphas.values())
        best = _largest(keeps_to_it) / _STEPS
    notes = [
        f"search: {checkpoint}",
        f"weights: {search.keep}",
        f"ranking: {shlex.join(how.arguments) or 'by alpha, over the whole network'}",
        f"allowed: {max_drop.points:g} points of {scale.name}",
    ]
    table = ResultsTable(
        {"ratio": "%", scale.name: metric_format(scale.name), "drop": "points", "kept to": None},
        sorted(rows, key=lambda row: row["ratio"]),
        title="Masked networks, before slicing and fine-tuning",
        notes=notes,
    )
    row = next((row for row in rows[1:] if row["ratio"] == best), None)
    if row is None:
        table.print()
        least = refused[-1] if len(rows) == 1 else f"the least costs {rows[-1]['drop']:.2f}"
        raise UsageError(
            f"--max-drop {max_drop.points:g}: no share of the scores keeps to it "
            f"({least}). Allow more, or prune by --ratio and fine-tune, which wins much of a drop back"
        )
    target = parse_target(SCORES, best)
    summary = (
        f"{target.title}: {scale.name} {row[scale.name]:.4g}, {row['drop']:.2f} points below "
        f"{scale.whole:.4g}"
    )
    return Choice(target, table, summary)


def _largest(keeps_to_it: Callable[[int], bool]) -> int:
    """The largest per cent, by bisection; 0 for none."""
    low, high = 0, _STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps_to_it(middle) else (low, middle)
    return low


def _scale(cfg: Config, metrics: dict[str, float], name: str | None) -> _Scale:
    known = [key for key in HEADLINES if key in metrics]
    if name is None:
        if not known and len(metrics) != 1:
            raise UsageError(
                f"--max-drop: which metric? The evaluator gives {', '.join(metrics) or 'none'}; name one "
                "with --metric"
            )
        name = (known or list(metrics))[0]
    if name not in metrics:
        raise UsageError(
            f"--metric {name}: the evaluator gives {', '.join(metrics) or 'none'}; name one of them"
        )
    saving = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    try:
        # As MMEngine decides which checkpoint is the best.
        (rule,) = CheckpointHook(save_best=name, rule=saving.get("rule")).rules
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"--metric {name}: nothing says whether more of it is better; add --cfg-options "
            "default_hooks.checkpoint.rule=greater, or less"
        ) from error
    return _Scale(name, points_per_unit(name), 1 if rule == "greater" else -1)


def _row(scale: _Scale, ratio: float, metrics: dict[str, float], max_drop: MaxDrop) -> dict:
    value = metrics[scale.name]
    drop = scale.drop(value)
    allowed = "yes" if drop <= max_drop.points else "no"
    return {"ratio": ratio, scale.name: value, "drop": drop, "kept to": allowed}


def _say(row: dict, scale: _Scale) -> None:
    """One line for each evaluation, as soon as it is known."""
    text = f"{row['ratio']:.0%} of the scores at zero: {scale.name} {row[scale.name]:.4g}"
    if row["ratio"]:
        text += f", a drop of {row['drop']:.2f} points: {row['kept to']}"
    print(text, flush=True)
    report(text=text)
