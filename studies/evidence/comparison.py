"""What the runs of a comparison say: means, intervals, differences, a picture and sentences."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from rarts_mm.files import atomic_write

CONFIDENCE = 0.95
# Okabe and Ito's, which everybody can tell apart.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Interval:
    """A mean and the half width of its confidence interval (Student's t over the seeds)."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half:.2f}"


@dataclass(frozen=True)
class Difference:
    """A paired difference: of the same seeds, so that what a seed does to all cancels out.

    Attributes:
        interval: of the difference.
        p: of the paired t test that it is zero.
        adjusted: the same after Holm's correction for all tests made together.
    """

    interval: Interval
    p: float
    adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the difference is there at the level of 5 % after the correction."""
        return self.adjusted < 1 - CONFIDENCE


def interval(values: Sequence[float]) -> Interval:
    """Mean and interval of independent values.

    Raises:
        ValueError: Fewer than two values, whose spread is not known.
    """
    if len(values) < 2:
        raise ValueError(f"An interval needs two values or more, got {len(values)}.")
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(
        float(np.mean(values)), float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * error
    )


def differences(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> dict[str, Difference]:
    """First minus second of each pair of samples, whose values belong together one by one."""
    found = {}
    for name, (first, second) in pairs.items():
        change = np.asarray(first, float) - np.asarray(second, float)
        of_change = interval(change)
        if of_change.half:
            p = float(stats.ttest_1samp(change, 0.0).pvalue)
        else:
            # Without any spread the test divides by zero.
            p = 1.0 if of_change.mean == 0 else 0.0
        found[name] = (of_change, p)
    adjusted = holm({name: p for name, (_, p) in found.items()})
    return {name: Difference(i, p, adjusted[name]) for name, (i, p) in found.items()}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's (1979) step-down adjustment: it controls the chance of any false rejection."""
    adjusted, running = {}, 0.0
    for done, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - done) * p_values[name]))
        adjusted[name] = running
    return adjusted


def draw_interval(axes: Axes, values: Sequence[float], y: float, colour: str) -> None:
    """Draw a mean with its interval at a height, and every value as a dot."""
    of_values = interval(values)
    axes.plot(values, [y] * len(values), ".", color=colour, alpha=0.35, markersize=5)
    axes.errorbar(
        of_values.mean,
        y,
        xerr=of_values.half,
        fmt="o",
        color=colour,
        capsize=3,
        markersize=5,
    )


def plot_errors(
    errors: Mapping[str, Mapping[float, Sequence[float]]],
    path: str | Path,
    title: str,
    unit: str,
) -> None:
    """Draw the mean error of each method with its interval, and every seed's as a dot.

    Args:
        errors: Method -> share removed (0: unpruned) -> error of each seed, in %.
        path: The picture; written whole or not at all.
        title: Above the picture.
        unit: What the shares are of, for the legend.
    """
    ratios = sorted({ratio for by_ratio in errors.values() for ratio in by_ratio})
    colours = dict(zip(ratios, itertools.cycle(COLOURS), strict=False))
    figure = Figure(figsize=(8.2, 0.52 * len(errors) + 1.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    for place, by_ratio in enumerate(errors.values()):
        for lane, (ratio, values) in enumerate(sorted(by_ratio.items())):
            y = place + 0.3 * (lane - (len(by_ratio) - 1) / 2)
            draw_interval(axes, values, y, colours[ratio])
    for ratio in ratios:
        label = f"{100 * ratio:g} % of the {unit} removed" if ratio else "unpruned"
        axes.plot([], [], "o", color=colours[ratio], label=label)
    axes.set_yticks(range(len(errors)), list(errors))
    axes.invert_yaxis()
    axes.set_xlabel("test error, % (mean, 95 % interval, dots: seeds)")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)
