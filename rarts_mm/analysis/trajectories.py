"""The searches' ways through the (alpha, w) plane of the model that can be solved by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rarts_mm.files import atomic_write
from rarts_mm.search import (
    DARTS1,
    DARTS2,
    RARTS,
    Alternation,
    Joint,
    Lagrangian,
    MiLeNAS,
    Point,
    RARTSJacobi,
    SolvableModel,
)
from rarts_mm.search.solvable import START, iterates

from .plots import COLOURS, DPI

_MINIMISER, _SPURIOUS = (1.0, 1.0), (2.0, 2.0)
# The alternations beside RARTS, with their lines; xi = 0.5 is the one that leads to (1, 1).
_OTHERS: dict[str, tuple[Alternation, dict]] = {
    "DARTS, first order": (DARTS1(), dict(color=COLOURS[1], linestyle="-")),
    "DARTS, second order, ξ = 0.5": (DARTS2(xi=0.5), dict(color=COLOURS[4], linestyle="--")),
    "MiLeNAS": (MiLeNAS(), dict(color=COLOURS[3], linestyle="-.")),
    "joint": (Joint(), dict(color=COLOURS[2], linestyle=(0, (3, 1, 1, 1, 1, 1)))),
    "RARTS, Jacobi": (RARTSJacobi(), dict(color=COLOURS[6], linestyle=":")),
}
# Of COLOURS[0], light to dark: the values of one panel.
_LIGHTEST, _DARKEST = 0.45, 1.0
_FACTORS, _SHIFTS = (0.2, 1.0, 3.0), (-2.0, 0.0, 2.0)
# Where a line can no longer be told from its end, or is far outside the picture.
_STILL, _OUTSIDE = 1e-5, 100.0


@dataclass(frozen=True)
class Panel:
    """One of the figure's panels.

    Attributes:
        title: what varies, and what does not.
        rarts: label -> (steps + 1, 2) points (alpha, w) of RARTS, one for each different value: a
            lambda or beta of 0 has no multiples.
        others: the same for the other alternations, by their names.
    """

    title: str
    rarts: dict[str, np.ndarray]
    others: dict[str, np.ndarray]


def trajectory(
    alternation: Alternation, weights: Lagrangian, model: SolvableModel, steps: int = 3000
) -> np.ndarray:
    """Run an alternation on the solvable model; return its way, (steps taken + 1, 2) of (alpha, w).

    It ends where it has come to rest or has left for good.
    """
    points = [model.point]
    for point in islice(iterates(alternation, weights, model), steps):
        points.append(point)
        here, before = (np.array(tuple(vars(p).values())) for p in points[-1:-3:-1])
        # "not <" also sees what is not a number.
        if np.abs(here - before).max() < _STILL or not np.abs(here).max() < _OUTSIDE:
            break
    return np.array([(p.alpha, p.w) for p in points])


def solvable_panels(
    lam: float = 10.0,
    beta: float = 10.0,
    eta: float = 0.01,
    start: Point = START,
) -> list[Panel]:
    """Run the searches of the papers' figure (IEEE Access 2022, Fig. 1; thesis, Fig. 2.1).

    Args:
        lam, beta: lambda and beta of all but the lines that vary them.
        eta: learning rate.
        start: where all but the lines that vary u begin.

    Returns:
        Three panels: lambda varied, beta varied, the initial u varied.
    """
    weights = Lagrangian(lam, beta)

    def run(weights: Lagrangian, start: Point, rule: Alternation) -> np.ndarray:
        return trajectory(rule, weights, SolvableModel(start, eta))

    others = {name: run(weights, start, rule) for name, (rule, _) in _OTHERS.items()}
    middle = run(weights, start, RARTS())

    def panel(title: str, symbol: str, cases: Sequence[tuple[float, Lagrangian, Point]]) -> Panel:
        different = {value: (case, first) for value, case, first in cases}
        ways = {
            f"{symbol} = {text}": middle
            if (case, first) == (weights, start)
            else run(case, first, RARTS())
            for text, (case, first) in zip(_texts(list(different)), different.values(), strict=True)
        }
        return Panel(title, ways, others)

    u = 0.0 if start.u is None else start.u
    return [
        panel(
            f"λ varied; β = {beta:g}, u₀ = {u:g}",
            "λ",
            [(f * lam, replace(weights, lam=f * lam), start) for f in _FACTORS],
        ),
        panel(
            f"β varied; λ = {lam:g}, u₀ = {u:g}",
            "β",
            [(f * beta, replace(weights, beta=f * beta), start) for f in _FACTORS],
        ),
        panel(
            f"u₀ varied; λ = {lam:g}, β = {beta:g}",
            "u₀",
            [(u + x, weights, replace(start, u=u + x)) for x in _SHIFTS],
        ),
    ]


def plot_trajectories(panels: Sequence[Panel], path: str | Path) -> None:
    """Draw ways through the (alpha, w) plane side by side, with the points (1, 1) and (2, 2).

    Args:
        panels: from left to right.
        path: The picture, its format by its suffix; written whole or not at all.

    Raises:
        ValueError: There are no panels.
    """
    if not panels:
        raise ValueError("There are no trajectories to draw.")
    figure = Figure(figsize=(4.4 * len(panels), 5.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw(axes, panel)
    all_axes[0].set_ylabel("w")
    low, high = _window(panels)
    all_axes[0].set_xlim(low[0], high[0])
    all_axes[0].set_ylim(low[1], high[1])
    marks = [line for line in all_axes[0].lines if line.get_label() not in panels[0].rarts]
    marks = [line for line in marks if not line.get_label().startswith("_")]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def _texts(values: Sequence[float]) -> list[str]:
    """Different numbers as short texts that differ."""
    # 17 digits tell any two numbers of double precision apart.
    for digits in range(6, 18):
        texts = [f"{value:.{digits}g}" for value in values]
        if len(set(texts)) == len(values):
            break
    return texts


def _draw(axes, panel: Panel) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    for name, way in panel.others.items():
        axes.plot(*way.T, linewidth=1.1, label=name, **_OTHERS[name][1])
        axes.plot(*way[-1], ".", color=_OTHERS[name][1]["color"], markersize=6)
    lines = []
    # A single way gets the darkest.
    shades = colormaps["Blues"](np.linspace(_DARKEST, _LIGHTEST, len(panel.rarts))[::-1])
    for shade, (label, way) in zip(shades, panel.rarts.items(), strict=True):
        lines += axes.plot(*way.T, linewidth=1.8, color=shade, label=label)
        axes.plot(*way[-1], ".", color=shade, markersize=8)
    axes.plot(*_MINIMISER, "k*", markersize=11, label="minimiser (1, 1)", zorder=5)
    axes.plot(*_SPURIOUS, "kx", markersize=8, mew=2, label="spurious point (2, 2)", zorder=5)
    axes.set_xlabel("α")
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.legend(handles=lines, title="RARTS", loc="lower right", frameon=False)


def _window(panels: Sequence[Panel]) -> tuple[np.ndarray, np.ndarray]:
    """The corners of what is shown: all ways, as far as they stay near where they begin and end."""
    ways = [way for p in panels for way in (*p.rarts.values(), *p.others.values())]
    fixed = np.array([_MINIMISER, _SPURIOUS, *(way[0] for way in ways)])
    low, high = fixed.min(0), fixed.max(0)
    reach = 0.75 * (high - low).max()
    points = np.concatenate(ways)
    near = points[((points > low - reach) & (points < high + reach)).all(1)]
    low, high = near.min(0), near.max(0)
    margin = 0.05 * (high - low)
    return low - margin, high + margin
