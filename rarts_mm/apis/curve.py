"""The masked network's quality over the pruning ratio: the choice of a ratio made visible."""

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.runner import Runner
from rich.progress import track

from rarts_mm.analysis import ResultsTable, count_parameters, plot_curve
from rarts_mm.search import AUXILIARY
from rarts_mm.widths import find_units, masked

from .errors import UsageError
from .metrics import headline, metric_format
from .preflight import check_files
from .prune import rank
from .search_checkpoint import load_search

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def draw_curve(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path | None = None,
    keep: str | None = None,
    min_keep: int = 1,
    options: dict | None = None,
    ratios: Sequence[float] = RATIOS,
    criterion: str = "alpha",
    seed: int = 0,
) -> ResultsTable:
    """Evaluate the network with the lowest scores set to zero, before anything is sliced.

    Uses the config's validation data and metrics; writes ``curve.json``, ``curve.md`` and
    ``curve.png``.

    Args:
        config, checkpoint, keep, min_keep, options, criterion, seed: as for :func:`~rarts_mm.apis.prune`.
        out: folder for the results; defaults to the checkpoint's.
        ratios: shares of the scores set to zero.
    """
    search = load_search(config, checkpoint, keep, options)
    plans = rank(search, ratios, min_keep, criterion, seed)
    out = Path(out) if out is not None else Path(checkpoint).parent
    cfg = copy.deepcopy(search.cfg)
    if not cfg.get("val_evaluator"):
        raise UsageError(
            f"--curve: {config} has no validation data (val_dataloader, val_evaluator)"
        )
    cfg.model.update(networks=1, keep=AUXILIARY)
    cfg.load_from, cfg.resume = None, False
    cfg.work_dir = str(out / "curve")
    check_files(cfg, phases=("val",))
    runner = Runner.from_cfg(cfg)
    runner.model.load_state_dict(search.model.state_dict())
    alphas = runner.model.alpha_parameters()
    units, _ = find_units(search.model.kept, search.model.space.include)
    whole = count_parameters(search.model.kept)

    rows, metrics = [], []
    for ratio in track([0.0, *ratios], description="masked network"):
        kept = {n: range(a.numel()) for n, a in alphas.items()}
        if ratio:
            kept = plans[ratio]
        removed = sum((u.size - len(kept[u.name])) * u.parameters_per_score for u in units)
        with masked(alphas, {name: list(index) for name, index in kept.items()}):
            metrics.append(headline(runner.val()))
        rows.append({"ratio": ratio, "parameters": whole - removed, **metrics[-1]})
    table = ResultsTable(
        {"ratio": "%", "parameters": "M", **{name: metric_format(name) for name in metrics[0]}},
        rows,
        title="Masked network, before slicing and fine-tuning",
        notes=[f"search: {checkpoint}", f"weights: {search.keep}", f"criterion: {criterion}"],
    )
    table.print()
    table.write(out / "curve")
    plot_curve(
        list(ratios),
        {name: [m[name] for m in metrics[1:]] for name in metrics[0]},
        out / "curve.png",
        baseline=metrics[0],
        title="Masked network, before slicing and fine-tuning",
    )
    print(f"wrote {out}/curve.png, curve.md, curve.json")
    return table
