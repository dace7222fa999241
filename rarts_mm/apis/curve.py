"""The masked network's quality over the pruning ratio: the choice of a ratio made visible."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.progress import track

from rarts_mm.analysis import ResultsTable, plot_curve
from rarts_mm.analysis.tables import COUNT
from rarts_mm.analysis.width_costs import WidthCosts
from rarts_mm.locks import locked

from .errors import UsageError
from .masked_evaluation import MaskedEvaluation
from .metrics import headline, metric_format
from .plan import Plan
from .plans import Ranking, make_plans, needs_no_scores
from .search_checkpoint import Search, load_search
from .targets import SCORES, Target, parse_target

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def draw_curve(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path | None = None,
    keep: str | None = None,
    how: Ranking | None = None,
    options: dict | None = None,
    ratios: Sequence[float] = RATIOS,
) -> ResultsTable:
    """Evaluate the network with the lowest scores set to zero, before anything is sliced.

    Uses the config's validation data and metrics; writes ``curve.json``, ``curve.md`` and
    ``curve.png``.

    Args:
        config, checkpoint, keep, how, options: as for :func:`~rarts_mm.apis.prune`.
        out: folder for the results; defaults to the checkpoint's.
        ratios: shares of the scores set to zero.
    """
    how = how or Ranking()
    search = load_search(config, checkpoint, keep, options, plain=needs_no_scores(how))
    plans = {}
    for target in [parse_target(SCORES, ratio) for ratio in ratios]:
        try:
            plans |= make_plans(search, [target], how)
        except UsageError as error:
            if not plans:
                raise
            # Ratios that the floors allow are drawn.
            print(f"the curve ends before {target.label}: {error}")
            break
    out = Path(out) if out is not None else Path(checkpoint).parent
    # Not the folder itself, in which the search may still be running.
    with locked(out / "curve"):
        return _draw(search, plans, checkpoint, how, out)


def _draw(
    search: Search, plans: Mapping[Target, Plan], checkpoint: str | Path, how: Ranking, out: Path
) -> ResultsTable:
    evaluation = MaskedEvaluation(search, out / "curve", "--curve")
    cost = WidthCosts(search.network).parameters()

    rows, metrics = [], []
    everything = {name: torch.arange(alpha.numel()) for name, alpha in search.alphas.items()}
    steps = [(0.0, everything)]
    steps += [(target.amount, plan.kept) for target, plan in plans.items()]
    for ratio, kept in track(steps, description="masked network"):
        metrics.append(headline(evaluation(kept)))
        parameters = cost({name: len(index) for name, index in kept.items()})
        rows.append({"ratio": ratio, "parameters": parameters, **metrics[-1]})
    table = ResultsTable(
        {"ratio": "%", "parameters": COUNT, **{name: metric_format(name) for name in metrics[0]}},
        rows,
        title="Masked network, before slicing and fine-tuning",
        notes=[
            f"search: {checkpoint}",
            f"weights: {search.keep}",
            f"ranking: {shlex.join(how.arguments) or 'by alpha, over the whole network'}",
        ],
    )
    table.print()
    table.write(out / "curve")
    plot_curve(
        [target.amount for target in plans],
        {name: [m[name] for m in metrics[1:]] for name in metrics[0]},
        out / "curve.png",
        baseline=metrics[0],
        title="Masked network, before slicing and fine-tuning",
    )
    print(f"wrote {out}/curve.png, curve.md, curve.json")
    return table
