"""The section "Cells" of studies/results.md: the comparison of topology searches, its table and picture."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config

from evidence.comparison import COLOURS, Difference, differences, draw_interval, interval
from evidence.sections import write_section
from evidence.wording import REFERENCE, measured_with, p_value, signed, verdict
from rarts_mm.analysis import ResultsTable
from rarts_mm.files import atomic_write
from topologies.one_search import RANDOM_CELLS, RANDOM_SEARCH

SECTION = "cells"
Networks = Mapping[str, Sequence[dict]]


def collect(runs: Sequence[dict]) -> dict[str, list[dict]]:
    """Method -> the retrained networks of all seeds, in the order of the seeds, with the search's time."""
    found: dict[str, list[dict]] = {}
    for run in sorted(runs, key=lambda run: run["task"]["seed"]):
        for network in run["networks"]:
            searched = network["method"] == run["task"]["method"]
            found.setdefault(network["method"], []).append(
                dict(network, seconds=run["seconds"] if searched else 0.0)
            )
    return found


def compare(networks: Networks) -> dict[str, Difference]:
    """Method -> its test error minus RARTS', paired by seed, corrected for all comparisons."""
    reference = _column(networks[REFERENCE], "error")
    return differences(
        {n: (_column(f, "error"), reference) for n, f in networks.items() if n != REFERENCE}
    )


def write_page(
    out: Path,
    *,
    runs: Sequence[dict],
    search: Config,
    retraining: Config,
    rates: Mapping[str, float],
    sweep_errors: Mapping[str, Mapping[float, float]],
    sweep_seeds: int,
    command: str,
) -> None:
    """Write the section into the page, and its picture beside the page.

    Args:
        out: ``.../results.md``; the picture is ``.../results-cells.png``.
        runs: results of :func:`topologies.one_search.perform`.
        search: the search's config, as run.
        retraining: the retraining's.
        rates: alternation -> chosen learning rate of alpha.
        sweep_errors: alternation -> rate -> mean validation error in %.
        sweep_seeds: number of seeds behind these.
        command: what makes the section again.
    """
    networks = collect(runs)
    compared = compare(networks)
    picture = out.with_name(f"{out.stem}-cells.png")
    _draw(networks, picture)
    text = "\n".join(
        [
            _head(runs, search, retraining, command),
            f"![Test error and share of skip connections of every method]({picture.name})\n",
            _table(networks, compared).markdown(),
            "### What the numbers say about cells\n",
            "\n".join(_sentences(networks, compared)) + "\n",
            "### What was tuned for the searches of cells\n",
            _tuning(rates, sweep_errors, sweep_seeds),
        ]
    )
    write_section(out, SECTION, text)


def _column(networks: Sequence[dict], key: str) -> list[float]:
    return [float(network[key]) for network in networks]


def _head(runs: Sequence[dict], search: Config, retraining: Config, command: str) -> str:
    backbone, derived = search.model.architecture.backbone, retraining.model.backbone
    steps = next(r["steps"] for r in runs if r["task"]["method"] == REFERENCE)
    random = next(r for r in runs if r["task"]["method"] == RANDOM_SEARCH)
    task, candidates = random["task"], len(random["candidates"])
    seeds = len({run["task"]["seed"] for run in runs})
    wrapper, optimizer = search.optim_wrapper, search.optim_wrapper.weights.optimizer
    alpha = wrapper.alpha.optimizer
    return f"""## Cells: every alternation and random search in a small DARTS space

    python tools/make_digits.py
    {command}

{measured_with()}

Does it matter by which rule the operations of DARTS cells are searched (thesis, section 3; IEEE Access 2022, Tables 1 and 4)? As far as two cores can answer it: cells of {backbone.nodes} nodes, whose every edge holds the eight operations of DARTS, and real handwritten digits of 8 x 8 pixels (scikit-learn's; 1000 for training, 257 for validation, 540 for the test), {seeds} seeds.

1. *Search*: {search.train_cfg.max_epochs} epochs over two halves of the training images ({steps} steps, each on a batch of {search.train_dataloader.batch_size} from either half) with a network of {backbone.layers} cells and C = {backbone.channels}. All alternations of a seed start from the same weights and alpha and draw the same halves and batches.
   *Random search* draws {candidates} genotypes from the same space (two different inputs for each node, any operation but `none`), trains each for {task["candidate_epochs"]} epochs on one half as below, and keeps the one with the lowest error on the other half. *Random cells* is the first of them, whatever its error: what no search at all gives.
2. *Derive* the genotype of the last epoch (`tools/derive.py`).
3. *Retrain* from scratch on all training images for {retraining.train_cfg.max_epochs} epochs, with {derived.layers} cells and C = {derived.channels}; all with the same seed, schedule and batches.
4. *Test* on the test images, which no search and no choice of a rate has seen (the size of the networks was chosen by them, see the end).

Settings: SGD {optimizer.lr:g} with momentum {optimizer.momentum:g} and weight decay {optimizer.weight_decay:g}, cosine decay, for the weights in search and retraining; Adam with betas {alpha.betas[0]:g}, {alpha.betas[1]:g} and weight decay {alpha.weight_decay:g} for alpha, as in DARTS; lambda {wrapper.lam:g}, beta {wrapper.beta:g}; second-order DARTS by the finite difference.
"""


def _table(networks: Networks, compared: Mapping[str, Difference]) -> ResultsTable:
    rows = []
    for name, found in networks.items():
        difference = compared.get(name)
        rows.append(
            {
                "method": name,
                "test error, %": str(interval(_column(found, "error"))),
                f"minus {REFERENCE}": None if difference is None else signed(difference),
                "p": None if difference is None else p_value(difference.adjusted),
                "skip share": statistics.mean(_column(found, "skip_share")),
                "parameters": statistics.mean(_column(found, "parameters")),
                "FLOPs": statistics.mean(_column(found, "flops")),
                "search, s": statistics.median(_column(found, "seconds")) or None,
                "retraining, s": statistics.median(_column(found, "finetune_seconds")),
            }
        )
    columns = dict.fromkeys(rows[0], str) | {
        "method": None,
        "skip share": "%",
        "parameters": "{:,.0f}".format,
        "FLOPs": "{:,.0f}".format,
        "search, s": "{:.0f}".format,
        "retraining, s": "{:.0f}".format,
    }
    return ResultsTable(
        columns,
        rows,
        notes=[
            f"Error: mean ± 95 % interval (Student's t over the seeds). Minus {REFERENCE}: paired by "
            "seed, with its own interval; p of the paired t test after Holm's correction for the "
            "comparisons of the table. Skip share: of the operations of both cells, mean. Parameters "
            "and multiply-adds: of the retrained network, mean. Seconds: processor time, median; the "
            "random search's are of all its candidates."
        ],
    )


def _sentences(networks: Networks, compared: Mapping[str, Difference]) -> list[str]:
    means = {name: interval(_column(found, "error")).mean for name, found in networks.items()}
    order = sorted(means, key=means.__getitem__)
    seconds = {n: statistics.median(_column(f, "seconds")) for n, f in networks.items()}
    skips = {n: statistics.mean(_column(f, "skip_share")) for n, f in networks.items()}
    most = max(skips, key=skips.__getitem__)
    sizes = {n: statistics.mean(_column(f, "parameters")) for n, f in networks.items()}
    everything = [network for found in networks.values() for network in found]
    slope = statistics.correlation(
        [math.log(n) for n in _column(everything, "parameters")], _column(everything, "error")
    )
    halves = [d.interval.half for d in compared.values()]
    seeds = len(networks[REFERENCE])
    return [
        f"- {verdict(compared)} By mean error {REFERENCE} is number {order.index(REFERENCE) + 1} of "
        f"the {len(order)} (lowest: {order[0]}, {means[order[0]]:.2f} %; highest: {order[-1]}, "
        f"{means[order[-1]]:.2f} %).",
        f"- The differences' intervals are {min(halves):.2f} to {max(halves):.2f} percentage points to "
        f"either side with {seeds} seeds: smaller differences than that cannot be seen here. "
        '"Significant" is 5 % after Holm\'s correction; not significant does not mean equal.',
        f"- {REFERENCE} takes {seconds[REFERENCE] / seconds['DARTS2']:.2f} of the time of second-order "
        f"DARTS and {seconds[REFERENCE] / seconds['DARTS1']:.2f} of first-order DARTS'; the random "
        f"search took {seconds[RANDOM_SEARCH] / seconds[REFERENCE]:.2f} of {REFERENCE}'.",
        f"- Skip connections: {skips[REFERENCE]:.0%} of the operations with {REFERENCE}, "
        f"{skips[RANDOM_CELLS]:.0%} in random cells (1/7 are to be expected), most with {most} "
        f"({skips[most]:.0%}). A search that collapses would have nearly all of them.",
        f"- The networks differ in size, as nothing holds the searches to one: {REFERENCE}' have "
        f"{sizes[REFERENCE] / sizes[RANDOM_CELLS]:.2f} of the parameters of random cells in the mean. "
        f"Over all {len(everything)} networks, error and the logarithm of the parameters correlate by "
        f"{slope:+.2f}.",
        "- One small data set, searches of a few hundred steps: this compares the searches on these "
        "digits and says little about CIFAR-10.",
    ]


def _tuning(
    rates: Mapping[str, float],
    errors: Mapping[str, Mapping[float, float]],
    sweep_seeds: int,
) -> str:
    tried = list(next(iter(errors.values())))
    table = ResultsTable(
        {
            "search": None,
            **{f"{rate:g}": "{:.2f}".format for rate in tried},
            "chosen": "{:g}".format,
        },
        [
            {"search": name, **{f"{r:g}": e for r, e in by_rate.items()}, "chosen": rates[name]}
            for name, by_rate in errors.items()
        ],
    )
    plural = "s" if sweep_seeds > 1 else ""
    return (
        "Alpha's learning rate, for every alternation alike: the lowest mean error of the retrained "
        f"network on the validation images, over {sweep_seeds} seed{plural} that the comparison does "
        "not use. Nothing else was tuned for any method.\n\n"
        "Two choices were made by hand and after looking. The size and the epochs of the networks to "
        "retrain were set on test errors of a few random cells, small enough that the errors are more "
        "than 2 %, before any searched cells were retrained. And four seeds were run first, after which the corrected "
        "p of random search was 0.052; that two more were added then makes a p near 5 % weaker evidence "
        "than it says.\n\n"
        "Validation error in %, by alpha's rate:\n\n" + table.markdown()
    )


def _draw(networks: Networks, path: Path) -> None:
    figure = Figure(figsize=(9.6, 0.42 * len(networks) + 1.2), dpi=150, layout="constrained")
    of_errors, of_skips = figure.subplots(1, 2, sharey=True)
    for place, found in enumerate(networks.values()):
        draw_interval(of_errors, _column(found, "error"), place, COLOURS[1])
        # Shares of a few operations have no interval of a normal distribution.
        skips = [100 * share for share in _column(found, "skip_share")]
        of_skips.plot(skips, [place] * len(skips), ".", color=COLOURS[2], alpha=0.5, markersize=6)
        of_skips.plot(statistics.mean(skips), place, "o", color=COLOURS[2], markersize=5)
    of_errors.set_xlabel("test error, % (mean, 95 % interval, dots: seeds)")
    of_skips.set_xlabel("skip connections, % of the operations (mean, dots: seeds)")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    figure.axes[0].set_yticks(range(len(networks)), list(networks))
    figure.axes[0].invert_yaxis()
    figure.suptitle("Handwritten digits: cells of every search, retrained", x=0.01, ha="left")
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)
