"""Accuracy over parameters and over FLOPs: one row of two pictures for each network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from evidence.comparison import Interval
from rarts_mm.files import atomic_write

# How far apart points of the same FLOPs are drawn, as a share of the axis.
_APART = 0.007


@dataclass(frozen=True)
class Curve:
    """A method's results for one network.

    Attributes:
        name: for the legend.
        points: parameters, FLOPs and accuracy in % of each budget.
        colour, line, marker: as matplotlib takes them. Without a marker it is a horizontal line with
            its interval, at the only point there is.
    """

    name: str
    points: Sequence[tuple[float, float, Interval]]
    colour: str
    line: str
    marker: str


def plot_accuracies(networks: Mapping[str, Sequence[Curve]], path: str | Path, title: str) -> None:
    """Draw all methods for all networks.

    Args:
        networks: title of a network -> its methods; the same methods in all, at the same places.
        path: the picture; written whole or not at all.
        title: above the picture.
    """
    figure = Figure(figsize=(11, 3.6 * len(networks) + 0.9), dpi=130, layout="constrained")
    grid = figure.subplots(len(networks), 2, squeeze=False, sharey="row")
    names: dict[str, object] = {}
    for row, (network, curves) in zip(grid, networks.items(), strict=True):
        for place, (axes, what) in enumerate(zip(row, ("parameters", "FLOPs"), strict=True)):
            _draw(axes, place, curves, names)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_formatter(NullFormatter())
            ticks = sorted({round(p[place], -2) for p in curves[0].points})
            axes.set_xticks(ticks)
            axes.set_xlabel(what)
            axes.set_title(network, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="0.92")
            axes.set_axisbelow(True)
        row[0].set_ylabel("test accuracy, %")
    figure.suptitle(title)
    figure.legend(names.values(), names.keys(), loc="outside lower center", ncols=5, frameon=False)
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def _draw(axes: Axes, place: int, curves: Sequence[Curve], names: dict[str, object]) -> None:
    everything = [point[place] for curve in curves for point in curve.points]
    spread = max(everything) / min(everything)
    lines = [curve for curve in curves if curve.marker]
    for curve in curves:
        accuracies = [point[2] for point in curve.points]
        if curve not in lines:
            (whole,) = accuracies
            label = axes.axhline(whole.mean, color=curve.colour, linestyle=curve.line)
            axes.axhspan(
                whole.mean - whole.half, whole.mean + whole.half, color=curve.colour, alpha=0.12
            )
        else:
            shift = lines.index(curve) - (len(lines) - 1) / 2
            label = axes.errorbar(
                [point[place] * spread ** (_APART * shift) for point in curve.points],
                [accuracy.mean for accuracy in accuracies],
                yerr=[accuracy.half for accuracy in accuracies],
                color=curve.colour,
                linestyle=curve.line,
                marker=curve.marker,
                markersize=4.5,
                linewidth=1.2,
                elinewidth=0.7,
                capsize=1.5,
            )
        names.setdefault(curve.name, label)
