"""The section "Pruning" of studies/results.md: tables, pictures and what they say."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from evidence.comparison import Difference, Interval, differences, interval
from evidence.sections import write_section
from evidence.wording import REFERENCE, measured_with, p_value, signed, verdict
from pruning.accuracy_plot import Curve, plot_accuracies
from pruning.pruners import DISTILL, FINETUNE, SCRATCH, TAS
from rarts_mm.analysis import ResultsTable

SECTION = "pruning"
# Alternations, and the methods that everything is compared to.
JOINT, PLAIN = "Joint", "WeightsOnly"
UNPRUNED = "unpruned"


@dataclass(frozen=True)
class Network:
    """One of the networks.

    Attributes:
        title: what it is called on the page.
        config: file name of its search's config.
        joint: what joint training with L1 is called for it.
        joint_options: options of the config for it.
    """

    title: str
    config: str
    joint: str
    joint_options: dict = field(default_factory=dict)


# Network Slimming scores by the batch norms' scales. All searches of a seed start from the same weights,
# so the scales start at 1 and not at the 0.5 of its section 4.2.
_SLIMMING = {"model.space": dict(type="BatchNormSpace")}
NETWORKS = {
    "preresnet": Network(
        "PreResNet-20", "rarts_preresnet20_digits.py", "Network Slimming", _SLIMMING
    ),
    "mobilenet": Network(
        "MobileNetV2", "rarts_mobilenet-v2_digits.py", "Network Slimming", _SLIMMING
    ),
    "swin": Network("Swin", "sidt_swin_micro_digits.py", "joint training"),
}

# Pruning and training -> name of the method; None: not pruned. In the order of the tables.
METHODS = {
    ("alpha", FINETUNE): REFERENCE,
    ("alpha", DISTILL): "RARTS + KD",
    ("alpha", SCRATCH): "RARTS' widths from scratch",
    ("joint", FINETUNE): JOINT,
    ("magnitude", FINETUNE): "magnitude",
    ("random", FINETUNE): "random",
    ("uniform", FINETUNE): "uniform",
    ("uniform", TAS): "uniform + TAS' KD",
    (None, FINETUNE): UNPRUNED,
}
# Colour (Okabe and Ito's), line and marker of each.
STYLES = {
    ("alpha", FINETUNE): ("#D55E00", "-", "o"),
    ("alpha", DISTILL): ("#D55E00", "--", "s"),
    ("alpha", SCRATCH): ("#D55E00", ":", "^"),
    ("joint", FINETUNE): ("#0072B2", "-", "D"),
    ("magnitude", FINETUNE): ("#009E73", "-", "v"),
    ("random", FINETUNE): ("#CC79A7", "-", "x"),
    ("uniform", FINETUNE): ("#000000", "-", "P"),
    ("uniform", TAS): ("#000000", "--", "*"),
    (None, FINETUNE): ("#777777", "-", ""),
}


@dataclass(frozen=True)
class Record:
    """One trained network.

    Attributes:
        network: key of ``NETWORKS``.
        pruning, training: key of ``METHODS``.
        ratio: what sets the budget; 0 for the unpruned one.
        seed: of everything that was drawn.
        error: % of the test images.
        parameters, flops: of the whole model, for one image.
        steps: of the last training.
    """

    network: str
    pruning: str | None
    training: str
    ratio: float
    seed: int
    error: float
    parameters: int
    flops: int
    steps: int


Models = Mapping[str, Mapping[float, list[Record]]]


def collect(records: Sequence[Record], network: str) -> dict[str, dict[float, list[Record]]]:
    """Method -> ratio -> the records of a network's seeds, in the order of the seeds."""
    found: dict[str, dict[float, list[Record]]] = {}
    mine = sorted((r for r in records if r.network == network), key=lambda r: (r.ratio, r.seed))
    for key in METHODS:
        for record in mine:
            if (record.pruning, record.training) == key:
                by_ratio = found.setdefault(method_name(key, network), {})
                by_ratio.setdefault(record.ratio, []).append(record)
    return found


def method_name(key: tuple[str | None, str], network: str) -> str:
    """What a method, a key of ``METHODS``, is called for a network."""
    return NETWORKS[network].joint if METHODS[key] == JOINT else METHODS[key]


def by_ratio(models: Models) -> dict[float, dict[str, Difference]]:
    """Ratio -> method -> its error minus RARTS', corrected within the ratio."""
    reference = models[REFERENCE]
    return {
        ratio: differences(
            {
                name: (_errors(found.get(ratio) or found[0.0]), _errors(of_reference))
                for name, found in models.items()
                if name != REFERENCE
            }
        )
        for ratio, of_reference in reference.items()
    }


def over_ratios(models: Models) -> dict[str, Difference]:
    """Method -> its error minus RARTS', each seed's mean over all ratios, corrected."""
    reference = mean_errors(models[REFERENCE])
    return differences(
        {
            name: (mean_errors(found), reference)
            for name, found in models.items()
            if name != REFERENCE
        }
    )


def mean_errors(found: Mapping[float, list[Record]]) -> list[float]:
    """Of each seed, the mean error over the ratios."""
    return [statistics.mean(e) for e in zip(*map(_errors, found.values()), strict=True)]


def write_page(
    out: Path,
    *,
    records: Sequence[Record],
    configs: Mapping[str, Config],
    seconds: Mapping[str, Mapping[str, float]],
    rates: Mapping[str, Mapping[str, float]],
    sweep_errors: Mapping[str, Mapping[str, Mapping[float, float]]],
    sweep_seeds: int,
    command: str,
) -> None:
    """Write the section into the page, and its picture beside the page.

    Args:
        out: ``.../results.md``; the picture is ``.../results-pruners.png``.
        records: everything that was trained.
        configs: network -> its search's config, as run.
        seconds: network -> alternation -> processor time of a search.
        rates: network -> search -> chosen learning rate of alpha.
        sweep_errors: network -> search -> rate -> mean validation error in %.
        sweep_seeds: number of seeds behind these.
        command: what makes the section again.
    """
    picture = out.with_name(f"{out.stem}-pruners.png")
    models = {key: collect(records, key) for key in configs}
    plot_accuracies(
        {NETWORKS[key].title: _curves(key, of_network) for key, of_network in models.items()},
        picture,
        "Handwritten digits: accuracy of pruned networks",
    )
    seeds = len({record.seed for record in records})
    parts = [
        _head(records, configs, seeds, command),
        f"### Accuracy over parameters and over FLOPs\n\n![Accuracy of every method over parameters "
        f"and over FLOPs]({picture.name})\n",
        "Mean over the seeds; bars: 95 % interval (Student's t over the seeds). All methods have the "
        "same FLOPs at each budget, and RARTS, RARTS + KD and RARTS' widths from scratch the same "
        "parameters: points are moved apart a little so that the bars can be seen; the tables have the "
        "numbers. Grey: the unpruned network, with its interval.\n",
        "### What the numbers say about pruning\n",
        "\n".join(_sentences(models, seeds)) + "\n",
        _differences_table(models).markdown(),
        *(part for key, of_network in models.items() for part in _tables(key, of_network)),
        "### What was tuned for pruning, and what a search costs\n",
        _tuning(rates, sweep_errors, sweep_seeds),
        _cost_table(seconds).markdown(),
    ]
    write_section(out, SECTION, "\n".join(parts))


def _errors(records: Sequence[Record]) -> list[float]:
    return [record.error for record in records]


def _mean(records: Sequence[Record], key: str) -> float:
    return statistics.mean(getattr(record, key) for record in records)


def _curves(network: str, models: Models) -> list[Curve]:
    curves = []
    for key, (colour, line, marker) in STYLES.items():
        name = method_name(key, network)
        points = [
            (_mean(found, "parameters"), _mean(found, "flops"), _accuracy(found))
            for found in models[name].values()
        ]
        curves.append(Curve(name, points, colour, line, marker))
    return curves


def _accuracy(records: Sequence[Record]) -> Interval:
    of_error = interval(_errors(records))
    return Interval(100 - of_error.mean, of_error.half)


def _head(
    records: Sequence[Record], configs: Mapping[str, Config], seeds: int, command: str
) -> str:
    whole = {r.network: r for r in records if r.pruning is None}
    names = "; ".join(
        f"{NETWORKS[key].title} ({whole[key].parameters:,} parameters, {whole[key].flops:,} "
        "multiply-adds an image)"
        for key in configs
    )
    cfg = next(iter(configs.values()))
    wrapper, tuning = cfg.optim_wrapper, cfg.finetune
    epochs, length = cfg.train_cfg.max_epochs, tuning.train_cfg.max_epochs
    scratch = cfg.baseline.train_cfg.max_epochs
    finetune = next(r.steps for r in records if r.training == FINETUNE)
    from_scratch = next(r.steps for r in records if r.training == SCRATCH)
    ratios = ", ".join(f"{100 * ratio:g}" for ratio in sorted({r.ratio for r in records} - {0.0}))
    slimmed = [NETWORKS[k] for k in configs if NETWORKS[k].joint_options]
    return f"""## Pruning: RARTS and the baselines on {len(configs)} network{"s" * (len(configs) > 1)}

    python tools/make_digits.py
    {command}

{measured_with()}

What is RARTS' pruning worth beside the baselines of the papers' tables, with the same budgets and the same fine-tuning? {names}; real handwritten digits of 8 x 8 pixels (scikit-learn's; 1000 for training, 257 for validation, 540 for the test), {seeds} seeds.
MMPretrain's MobileNetV2 divides the image's sides by 32 and reads three channels, so it is given the digits enlarged to 32 x 32, as three equal channels.

1. *Train*, {epochs} epochs over two halves of the training images, from the same weights and on the same batches for all methods of a seed:
   **RARTS**, scores on the channels or dimensions; **{slimmed[0].joint if slimmed else "joint training"}**, {"joint training of weights and batch norm scales with L1 on these, which start at 1 like everybody's; for the Swin, which has no batch norm, *joint training* of the scores with L1" if slimmed else "of weights and scores with L1"}; and plain training without scores, which all the others share.
2. *Prune*. The budget is the number of FLOPs of the whole model that remained if every layer lost {ratios} % of its dimensions, and it is the same number for every method (`--flops N --of model`), so methods differ in parameters, not in FLOPs.
   RARTS and {slimmed[0].joint if slimmed else "joint training"} rank by |alpha| over the whole network; *magnitude* by the L1 norm of the weights within each layer (Li et al., ICLR 2017), so that its widths are the uniform ones and only the choice within a layer differs; *random* by random numbers over the whole network; *uniform* by random numbers within each layer.
3. *Fine-tune* for {length} epochs on all training images ({finetune} steps), with one schedule for all. *Unpruned* goes through the same whole: it is the plain network trained on for as many steps.
   *RARTS + KD* is fine-tuned with the thesis' distillation: L + KL at T = 4, weight 1, no T^2; the teacher is *unpruned* of the same seed, the best whole network that there is. *Uniform + TAS' KD* has the objective of TAS' distillation, (1 - a) CE + a T^2 KL with a = 0.9 and T = 4, and the same teacher: that is TAS' distillation on uniform widths, not TAS' search.
   *RARTS' widths from scratch* trains the architecture that RARTS found from random weights for {scratch} epochs ({from_scratch} steps: as many as search and fine-tuning, rounded up to epochs), on all training images, in the search's schedule.
4. *Test* on the test images, which nothing else has seen. Batch norms are tested with the running averages of their training, nothing is recomputed, for all methods.

Settings: AdamW, {wrapper.weights.optimizer.lr:g} in the search, in fine-tuning (which has the settings of the search, as in the thesis) and from scratch, cosine decay, weight decay {wrapper.weights.optimizer.weight_decay:g}; lambda {wrapper.lam:g}, beta {wrapper.beta:g}, gamma {wrapper.penalty.gamma:g} for all with L1.
"""


def _tables(key: str, models: Models) -> list[str]:
    compared = by_ratio(models)
    title = NETWORKS[key].title
    ratios = list(models[REFERENCE])
    errors, sizes = [], []
    for name, found in models.items():
        row, size = {"method": name}, {"method": name}
        for ratio in ratios:
            column = f"{100 * ratio:g} %"
            at = found.get(ratio) or found[0.0]
            difference = compared[ratio].get(name)
            mark = " *" if difference is not None and difference.significant else ""
            row[column] = f"{interval(_errors(at))}{mark}"
            size[column] = f"{_mean(at, 'parameters'):,.0f} / {_mean(at, 'flops'):,.0f}"
        errors.append(row)
        sizes.append(size)
    columns = {"method": None, **{f"{100 * ratio:g} %": str for ratio in ratios}}
    return [
        ResultsTable(
            columns,
            errors,
            title=f"{title}: test error in %, by the share removed that sets the budget",
            notes=[
                f"Mean ± 95 % interval. *: differs from {REFERENCE} at the same budget at the level of "
                "5 % (paired t test over the seeds, Holm's correction within the column). The unpruned "
                "network is the same in all columns."
            ],
        ).markdown(),
        ResultsTable(columns, sizes, title=f"{title}: parameters / FLOPs, mean").markdown(),
    ]


def _differences_table(models: Mapping[str, Models]) -> ResultsTable:
    rows = []
    for key, of_network in models.items():
        for name, difference in over_ratios(of_network).items():
            rows.append(
                {
                    "network": NETWORKS[key].title,
                    "method": name,
                    f"minus {REFERENCE}": signed(difference),
                    "p": p_value(difference.p),
                    "corrected": p_value(difference.adjusted),
                }
            )
    columns = {"network": None, "method": None, f"minus {REFERENCE}": str, "p": str}
    return ResultsTable(
        {**columns, "corrected": str},
        rows,
        title="Test error, mean over all budgets, in percentage points",
        notes=[
            f"Positive: {REFERENCE} has the lower error. Mean of the paired differences over the seeds, "
            "with its own 95 % interval; p of the paired t test, and after Holm's correction for the "
            "comparisons of the network."
        ],
    )


def _sentences(models: Mapping[str, Models], seeds: int) -> list[str]:
    lines, halves = [], []
    for key, of_network in models.items():
        title = NETWORKS[key].title
        overall = over_ratios(of_network)
        halves += [d.interval.half for d in overall.values()]
        means = {n: statistics.mean(mean_errors(found)) for n, found in of_network.items()}
        means.pop(UNPRUNED)
        order = sorted(means, key=means.__getitem__)
        lines.append(
            f"- **{title}**, mean over the budgets: {verdict(overall)} By mean error {REFERENCE} is "
            f"number {order.index(REFERENCE) + 1} of the {len(order)} that prune (lowest: {order[0]}, "
            f"{means[order[0]]:.2f} %; highest: {order[-1]}, {means[order[-1]]:.2f} %)."
        )
        single = [
            f"{name} at {100 * ratio:g} % ({difference.interval.mean:+.2f})"
            for ratio, compared in by_ratio(of_network).items()
            for name, difference in compared.items()
            if difference.significant
        ]
        lines.append(
            f"  Within single budgets, significantly different from {REFERENCE}: "
            f"{', '.join(single) or 'none'}."
        )
        lines.append(f"  {_distillation(of_network)}")
    lines.append(
        f"- The intervals of these differences are {min(halves):.2f} to {max(halves):.2f} percentage "
        f"points to either side (median {statistics.median(halves):.2f}) with {seeds} seeds: smaller "
        'differences than that cannot be seen here. "Significant" is 5 % after Holm\'s correction; not '
        "significant does not mean equal."
    )
    lines.append(
        "- One small data set and small networks, one rate of the weights and one length of training "
        "for all: this compares the methods on these digits and says little about the papers' networks."
    )
    return lines


def _distillation(models: Models) -> str:
    """What TAS' distillation changes on uniform widths: the one pair that RARTS is no part of."""
    names = METHODS[("uniform", TAS)], METHODS[("uniform", FINETUNE)]
    first, second = (mean_errors(models[name]) for name in names)
    difference = differences({names[0]: (first, second)})[names[0]]
    return (
        f"{names[0]} minus {names[1]}: {signed(difference)} percentage points "
        f"(p {p_value(difference.p)}, a test by itself)."
    )


def _tuning(
    rates: Mapping[str, Mapping[str, float]],
    errors: Mapping[str, Mapping[str, Mapping[float, float]]],
    sweep_seeds: int,
) -> str:
    tried = list(next(iter(next(iter(errors.values())).values())))
    table = ResultsTable(
        {
            "network": None,
            "search": None,
            **{f"{rate:g}": "points" for rate in tried},
            "chosen": "{:g}".format,
        },
        [
            {
                "network": NETWORKS[key].title,
                "search": NETWORKS[key].joint if name == JOINT else name,
                **{f"{rate:g}": by_rate[rate] for rate in tried},
                "chosen": rates[key][name],
            }
            for key, of_network in errors.items()
            for name, by_rate in of_network.items()
        ],
    )
    plural = f"{sweep_seeds} seeds" if sweep_seeds > 1 else "one seed"
    return (
        "Alpha's learning rate, for both searches that have alpha and for each network: the lowest "
        f"error on the validation images at the smallest budget, over {plural} that the comparison "
        "does not use; of equal errors the smaller rate. It is a coarse choice: an image is 0.39 % of "
        "the 257. Nothing else was tuned for any method: lambda and beta are the project's defaults, "
        "gamma is the thesis'.\n\n"
        "The Swin, the weights' rate and the epochs are those of the comparison of searches. The other "
        "two networks were set by hand beforehand, on validation errors of unpruned networks, and made "
        "no larger than the time allowed. Fine-tuning has the search's rate because a third of it was "
        "too slow for the convolutional networks: on validation data, seed 0, a narrower PreResNet that "
        "was pruned at the smallest budget had errors of 28 to 39 % after it by all methods, and of 13 % "
        "from scratch.\n\n"
        "Validation error in % by alpha's rate:\n\n" + table.markdown()
    )


def _cost_table(seconds: Mapping[str, Mapping[str, float]]) -> ResultsTable:
    names = list(next(iter(seconds.values())))
    return ResultsTable(
        {"network": None, **dict.fromkeys(names, "{:.1f}".format)},
        [{"network": NETWORKS[key].title, **found} for key, found in seconds.items()],
        title="Processor time of one search in s, median over the seeds",
        notes=[
            f"{JOINT}: Network Slimming where the network has batch norms. {PLAIN}: the plain training. "
            "With building the model and reading the data."
        ],
    )
