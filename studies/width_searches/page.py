"""The section "Searches" of studies/results.md: the comparison's tables, picture and what they say."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from evidence.comparison import Difference, differences, interval, plot_errors
from evidence.sections import write_section
from evidence.wording import REFERENCE, measured_with, p_value, signed, verdict
from rarts_mm.analysis import ResultsTable
from width_searches.one_search import UNPRUNED

SECTION = "searches"
KINDS = {
    "parameters": "{:g} % of the prunable parameters removed",
    "scores": "{:g} % of the scores removed",
}


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Attributes:
        name: what it is called.
        search: the alternation that trains the network.
        criterion: what it is pruned by.
    """

    name: str
    search: str
    criterion: str


Budget = tuple[str, float]


def collect(
    methods: Sequence[Method], runs: Sequence[dict]
) -> dict[Budget | None, dict[str, list[dict]]]:
    """Budget (None: unpruned) -> method -> the models of all seeds, in the order of the seeds."""
    found: dict[Budget | None, dict[str, list[dict]]] = {}
    for method in methods:
        for run in sorted(runs, key=lambda run: run["task"]["seed"]):
            if run["task"]["alternation"] != method.search:
                continue
            for model in run["models"]:
                if model["criterion"] == method.criterion:
                    budget = model["budget"] and tuple(model["budget"])
                    found.setdefault(budget, {}).setdefault(method.name, []).append(model)
    return found


def compare(
    models: Mapping[Budget | None, Mapping[str, list[dict]]],
) -> dict[Budget, dict[str, Difference]]:
    """Budget -> method -> difference of its test error to RARTS', corrected within the budget."""
    compared = {}
    for budget, by_method in models.items():
        if budget is None:
            continue
        errors = {n: _column(found, "error") for n, found in by_method.items()}
        errors |= {n: _column(found, "error") for n, found in models.get(None, {}).items()}
        reference = errors.pop(REFERENCE)
        compared[budget] = differences({n: (found, reference) for n, found in errors.items()})
    return compared


def write_page(
    out: Path,
    *,
    methods: Sequence[Method],
    runs: Sequence[dict],
    cfg: Config,
    rates: Mapping[str, float],
    sweep_errors: Mapping[str, Mapping[float, tuple[float, float]]],
    sweep_seeds: int,
    command: str,
) -> None:
    """Write the section into the page, and its picture beside the page.

    Args:
        out: ``.../results.md``; the picture is ``.../results-digits.png``.
        methods: rows of the tables, in their order.
        runs: results of :func:`width_searches.one_search.perform`.
        cfg: the search's config, as run.
        rates: search -> chosen learning rate of alpha.
        sweep_errors: search -> rate -> mean error in % after and before fine-tuning.
        sweep_seeds: number of seeds behind these.
        command: what makes the section again.
    """
    models = collect(methods, runs)
    compared = compare(models)
    seeds = len({run["task"]["seed"] for run in runs})
    budgets = [budget for budget in models if budget is not None]
    picture = out.with_name(f"{out.stem}-digits.png")
    drawn = [budget for budget in budgets if budget[0] == "parameters"] or budgets
    plot_errors(
        {
            method.name: {
                0.0 if budget is None else budget[1]: _column(by_method[method.name], "error")
                for budget, by_method in models.items()
                if method.name in by_method and (budget is None or budget in drawn)
            }
            for method in methods
        },
        picture,
        "Handwritten digits: error of the pruned networks",
        unit="parameters" if drawn[0][0] == "parameters" else "scores",
    )
    parts = [
        _head(cfg, runs, seeds, command),
        "### Results\n",
        f"![Test error of every method]({picture.name})\n",
        _legend(),
        *[_table(budget, models, compared[budget]).markdown() for budget in budgets],
        "### What the numbers say\n",
        "\n".join(_sentences(models, compared, seeds)) + "\n",
        "### What a search costs\n",
        _cost_table(methods, runs).markdown(),
        "### What was tuned\n",
        _tuning(rates, sweep_errors, sweep_seeds),
    ]
    write_section(out, SECTION, "\n".join(parts))


def _column(models: Sequence[dict], key: str) -> list[float]:
    return [float(model[key]) for model in models]


def _head(cfg: Config, runs: Sequence[dict], seeds: int, command: str) -> str:
    network = next(m for r in runs for m in r["models"] if m["criterion"] == UNPRUNED)
    steps = runs[0]["steps"]
    finetune = runs[0]["models"][0]["finetune_steps"]
    wrapper = cfg.optim_wrapper
    return f"""## Searches: RARTS and the others on one network

    python tools/make_digits.py
    {command}

{measured_with()}

### The comparison

The question of the papers (IEEE Access 2022, Table 6; thesis, Table 4.2): does it matter by which search a network is pruned? As far as two cores can answer it: width search on a small Swin
({network["parameters"]:,} parameters, {network["flops"]:,} multiply-adds an image) and real handwritten digits of 8 x 8 pixels (scikit-learn's; 1000 for training, 257 for validation, 540 for the test), {seeds} seeds.

For every seed and method:

1. *Search from scratch*, as the papers do with classifiers: {cfg.train_cfg.max_epochs} epochs over two halves of the training images ({steps} steps, each on a batch of {cfg.train_dataloader.batch_size} from either half) with the alternation. All alternations start from the same weights and draw the same halves and batches.
   The network that goes on has followed the loss on one half alone with DARTS and MiLeNAS, on one half and the pull of the other network with RARTS, on both halves with joint training.
   *Magnitude*, *random scores* and *unpruned* share one network, trained for as many steps on the same batches without alpha (`WeightsOnly`).
2. *Prune* to a budget: by |alpha| over the whole network; *magnitude* by the L1 norm of the weights within each layer (Li et al., ICLR 2017); *random scores* by random numbers (Table 6's control).
   Of RARTS, w goes on, as in Algorithm 3.
3. *Fine-tune* for {cfg.finetune.train_cfg.max_epochs} epochs on all training images ({finetune} steps), with one schedule for all. *Unpruned* goes through the same, without step 2: it is the network trained on for as many steps.
4. *Test* on the test images, which nothing else has seen.

Settings: AdamW, {wrapper.weights.optimizer.lr:g} in the search and {cfg.finetune.optim_wrapper.optimizer.lr:g} in fine-tuning, cosine decay, weight decay {wrapper.weights.optimizer.weight_decay:g}; lambda {wrapper.lam:g}, beta {wrapper.beta:g}, L1 penalty with gamma {wrapper.penalty.gamma:g};
second-order DARTS by the finite difference, whose virtual step under AdamW is the plain w - xi dL_a/dw.
"""


def _legend() -> str:
    return (
        "Error: % of the test images, mean ± 95 % interval (Student's t over the seeds). Minus "
        f"{REFERENCE}: paired by seed, with its own interval; p of the paired t test after Holm's "
        "correction for the comparisons of the table. Before: the pruned network without any "
        "fine-tuning. Left: share of the dimensions of attention heads and of MLPs.\n\n"
        "An equal share of the scores is no equal budget: a dimension of an attention takes more "
        "parameters along than one of an MLP, and searches differ in which they remove. So the first "
        "tables are for equal parameters (the least pruning that reaches the budget), the others for "
        "equal shares of the scores, as the papers pair.\n"
    )


def _title(budget: Budget) -> str:
    kind, share = budget
    return KINDS[kind].format(100 * share)


def _table(budget: Budget, models: Mapping, compared: Mapping[str, Difference]) -> ResultsTable:
    rows = []
    for name, found in {**models[budget], **models.get(None, {})}.items():
        difference = compared.get(name)
        left = {kind: statistics.mean(m["left"][kind] for m in found) for kind in found[0]["left"]}
        rows.append(
            {
                "method": name,
                "test error, %": str(interval(_column(found, "error"))),
                f"minus {REFERENCE}": None if difference is None else signed(difference),
                "p": None if difference is None else p_value(difference.adjusted),
                "before, %": str(interval(_column(found, "error_before"))),
                "parameters": statistics.mean(_column(found, "parameters")),
                "FLOPs": statistics.mean(_column(found, "flops")),
                "scores removed": statistics.mean(_column(found, "ratio")),
                "left": ", ".join(f"{kind} {share:.0%}" for kind, share in left.items()),
            }
        )
    columns = dict.fromkeys(rows[0], str) | {
        "method": None,
        "parameters": "{:,.0f}".format,
        "FLOPs": "{:,.0f}".format,
        "scores removed": "%",
        "left": None,
    }
    return ResultsTable(columns, rows, title=_title(budget))


def _sentences(models: Mapping, compared: Mapping, seeds: int) -> list[str]:
    lines = []
    for budget, by_name in compared.items():
        means = {n: interval(_column(f, "error")).mean for n, f in models[budget].items()}
        order = sorted(means, key=means.__getitem__)
        lines.append(
            f"- **{_title(budget)}**: {verdict(by_name)} By mean error {REFERENCE} is number "
            f"{order.index(REFERENCE) + 1} of the {len(order)} that prune (lowest: {order[0]}, "
            f"{means[order[0]]:.2f} %; highest: {order[-1]}, {means[order[-1]]:.2f} %)."
        )
    halves = [d.interval.half for by_name in compared.values() for d in by_name.values()]
    lines.append(
        f"- The differences' intervals are {min(halves):.2f} to {max(halves):.2f} percentage points to "
        f"either side (median {statistics.median(halves):.2f}) with {seeds} seeds: smaller differences "
        'than that cannot be seen here. "Significant" is 5 % after Holm\'s correction; not '
        "significant does not mean equal."
    )
    lines.append(
        "- One data set, one network, one rate of the weights: this compares the searches on these "
        "digits and says little about the papers' networks."
    )
    return lines


def _cost_table(methods: Sequence[Method], runs: Sequence[dict]) -> ResultsTable:
    seconds: dict[str, list[float]] = {}
    for run in runs:
        seconds.setdefault(run["task"]["alternation"], []).append(run["seconds"])
    base = statistics.median(seconds["Joint"])
    rows = [
        {
            "search": name,
            "s": statistics.median(values),
            "ratio to Joint": statistics.median(values) / base,
            "used by": ", ".join(m.name for m in methods if m.search == name),
        }
        for name, values in seconds.items()
    ]
    columns = {"search": None, "s": "{:.1f}".format, "ratio to Joint": "{:.2f}".format}
    return ResultsTable(
        {**columns, "used by": None},
        rows,
        notes=[
            "Processor time of one search, median over the seeds, with building the model and reading "
            "the data. All searches make equally many steps and see equally many images, which is no "
            "equal computing: a step of RARTS or DARTS2 is longer. What the cheaper ones would do with "
            "the time was not measured. [Benchmarks](../docs/benchmarks.md) has the steps alone."
        ],
    )


def _tuning(
    rates: Mapping[str, float],
    errors: Mapping[str, Mapping[float, tuple[float, float]]],
    sweep_seeds: int,
) -> str:
    tried = list(next(iter(errors.values())))
    table = ResultsTable(
        {"search": None, **{f"{rate:g}": str for rate in tried}, "chosen": "{:g}".format},
        [
            {
                "search": name,
                **{f"{rate:g}": "{:.2f} ({:.1f})".format(*by_rate[rate]) for rate in tried},
                "chosen": rates[name],
            }
            for name, by_rate in errors.items()
        ],
    )
    edges = [n for n, rate in rates.items() if rate in (min(tried), max(tried))]
    at_edge = ""
    if edges:
        at_edge = (
            f" For {', '.join(edges)} the lowest error is at an end of the range, so that a rate "
            "beyond it might do better."
        )
    return (
        "Alpha's learning rate, for every search alike: the lowest mean error on the validation "
        f"images at the largest equal-parameter budget, over {sweep_seeds} seeds that the comparison "
        "does not use; between equals, the lower error before fine-tuning." + at_edge + " Nothing "
        "else was tuned for any method: lambda and beta are the project's defaults, gamma is the "
        "thesis'. Magnitude and random scores have nothing to tune.\n\n"
        "The network, the number of epochs and the weights' rate were set by hand beforehand, on "
        "validation errors: of unpruned networks, and of a larger network (seed 0) pruned after "
        "RARTS and after plain training, whose errors were all below 2 % and so told nothing apart. "
        "The range of alpha's rates was widened once, upwards, as most searches had their lowest "
        "validation error at its end.\n\n"
        "Validation error in % after (before) fine-tuning, by alpha's rate:\n\n" + table.markdown()
    )
