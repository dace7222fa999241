"""The picture of the latency benchmark: latency ratio over FLOP ratio."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rarts_mm.analysis.plots import COLOURS
from rarts_mm.files import atomic_write


def plot_latency(rows: Sequence[Mapping], path: str | Path) -> None:
    """Draw a panel for each network and batch, a colour for each way of running.

    Args:
        rows: With ``model``, ``batch``, ``way``, ``round_to``, ``flop_ratio``, ``latency_ratio``.
        path: The picture, its format by its suffix; written whole or not at all.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    ways = list(dict.fromkeys(row["way"] for row in rows))
    rounding = list(dict.fromkeys(row["round_to"] for row in rows))
    colours = dict(zip(ways, COLOURS, strict=False))
    styles = dict(zip(rounding, ("o-", "s--", "^:", "d-."), strict=False))
    figure = Figure(
        figsize=(3.4 * len(models) + 1.8, 3.2 * len(batches)), dpi=150, layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(batches), len(models), squeeze=False)
    for line, batch in zip(panels, batches, strict=True):
        for axes, model in zip(line, models, strict=True):
            axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
            for way in ways:
                for multiple in rounding:
                    points = sorted(
                        (row["flop_ratio"], row["latency_ratio"])
                        for row in rows
                        if (row["model"], row["batch"]) == (model, batch)
                        and (row["way"], row["round_to"]) == (way, multiple)
                    )
                    if points:
                        axes.plot(
                            *zip(*points, strict=True),
                            styles[multiple],
                            color=colours[way],
                            markersize=4,
                            markerfacecolor=colours[way] if multiple == 1 else "white",
                            linewidth=1.2,
                        )
            axes.set_title(f"{model}, batch {batch}", loc="left", fontsize=10)
            axes.set_xlim(0.2, 1.04)
            axes.set_ylim(0.2, 1.1)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="0.92")
        line[0].set_ylabel("latency by unpruned, same way")
    for axes in panels[-1]:
        axes.set_xlabel("FLOPs by unpruned")
    handles = [Line2D([], [], color=colours[way], linewidth=3, label=way) for way in ways]
    handles += [
        Line2D(
            [],
            [],
            color="0.3",
            linestyle=styles[m][1:],
            marker=styles[m][0],
            markerfacecolor="0.3" if m == 1 else "white",
            label="any width" if m == 1 else f"multiples of {m}",
        )
        for m in rounding
    ]
    handles.append(Line2D([], [], color="0.6", linewidth=0.8, label="all arrives"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)
