"""Pictures of a search: remaining widths, curves, distributions of scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from rarts_mm.files import atomic_write

DPI = 150
# Told apart by everybody: Okabe and Ito's colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
KINDS = {
    "attention": {"marker": "o", "linestyle": "-"},
    "mlp": {"marker": "s", "linestyle": "--", "markerfacecolor": "white"},
    "channel": {"marker": "^", "linestyle": "-."},
    "selection": {"marker": "v", "linestyle": ":", "markerfacecolor": "white"},
}
LABELS = {"mlp": "MLP", "channel": "channels", "selection": "selected inputs"}
# Inches that pictures of many layers may take; their layers' names then go by stages alone.
LARGEST = 16.0


def plot_widths(
    sizes: Mapping[str, int],
    kept: Mapping[str, Mapping[str, int]],
    path: str | Path,
    title: str = "Dimensions that remain, layer by layer",
    kinds: Mapping[str, str] | None = None,
) -> None:
    """Draw how much of each layer remains, in network order (as thesis, Fig. 4.2).

    Args:
        sizes: Unit name -> dimensions before pruning, in network order.
        kept: Label -> unit name -> dimensions that remain; one pair of lines per label.
        path: The picture, its format by its suffix; written whole or not at all.
        title: Above the picture.
        kinds: Unit name -> its kind, a key of ``KINDS``; by default told by the name, attention or
            MLP.

    Raises:
        ValueError: Nothing to draw, or a unit is missing or has more dimensions than before.
    """
    if not sizes or not kept:
        raise ValueError("There are no widths to draw.")
    for label, widths in kept.items():
        for name, size in sizes.items():
            if not 0 <= widths.get(name, -1) <= size:
                raise ValueError(
                    f"{label!r} keeps {widths.get(name, 'an unknown number')} of the {size} "
                    f"dimensions of {name}."
                )
    names = list(sizes)
    many = 0.36 * len(names) + 1.6 > LARGEST
    figure, axes = _figure(min(LARGEST, max(6.0, 0.36 * len(names) + 1.6)), 4.4)
    of_each = [(kinds or {}).get(name) or _kind(name) for name in names]
    size = dict(markersize=3.5, linewidth=1) if many else dict(markersize=6, linewidth=1.4)
    for colour, widths in zip(_colours(len(kept)), kept.values(), strict=True):
        for kind in dict.fromkeys(of_each):
            places = [i for i, k in enumerate(of_each) if k == kind]
            ratios = [widths[names[i]] / sizes[names[i]] for i in places]
            axes.plot(places, ratios, color=colour, **size, **KINDS.get(kind, KINDS["mlp"]))
        whole = sum(widths[name] for name in names) / sum(sizes.values())
        axes.axhline(whole, color=colour, linewidth=0.8, linestyle=":")
    _mark_stages(axes, names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("remaining dimensions")
    if many:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names)} units in the order of the network")
    else:
        labels = [_short(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=8)
    axes.set_title(title, loc="left", pad=22)

    handles = [
        Line2D([], [], color=colour, linewidth=3, label=label)
        for colour, label in zip(_colours(len(kept)), kept, strict=True)
    ]
    handles += [
        Line2D([], [], color="0.3", label=LABELS.get(kind, kind), **KINDS.get(kind, KINDS["mlp"]))
        for kind in dict.fromkeys(of_each)
    ]
    handles.append(Line2D([], [], color="0.3", linestyle=":", linewidth=0.8, label="whole network"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    _save(figure, path)


def plot_curve(
    ratios: Sequence[float],
    metrics: Mapping[str, Sequence[float]],
    path: str | Path,
    baseline: Mapping[str, float] | float | None = None,
    title: str = "",
) -> None:
    """Draw how good pruned models are over the ratio of pruning.

    Args:
        ratios: Shares of the dimensions that were removed, in [0, 1).
        metrics: Name -> its value at each ratio; NaN where there is none.
        path: The picture, its format by its suffix; written whole or not at all.
        baseline: Name -> value of the model before pruning, or one value for all.
        title: Above the picture.

    Raises:
        ValueError: Nothing to draw, or a metric without a value for each ratio.
    """
    if not len(ratios) or not metrics:
        raise ValueError("There is no curve to draw.")
    for name, values in metrics.items():
        if len(values) != len(ratios):
            raise ValueError(
                f"{name!r} has {len(values)} values for {len(ratios)} ratios; give NaN for those "
                "that are missing."
            )
    figure, axes = _figure(7.6, 4.2)
    order = np.argsort(ratios)
    if baseline is not None and not isinstance(baseline, Mapping):
        axes.axhline(baseline, color="0.3", linestyle="--", linewidth=1, label="before pruning")
        baseline = None
    for colour, (name, values) in zip(_colours(len(metrics)), metrics.items(), strict=True):
        axes.plot(
            np.asarray(ratios)[order], np.asarray(values)[order], "o-", color=colour, label=name
        )
        if baseline and name in baseline:
            axes.axhline(
                baseline[name],
                color=colour,
                linestyle="--",
                linewidth=1,
                label=f"{name}, before pruning",
            )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("removed dimensions")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left")
    # Beside the axes: inside, it would lie on a curve or a baseline.
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    _save(figure, path)


def draw_score_histograms(scores: Mapping[str, Tensor], bins: int = 80) -> np.ndarray:
    """Draw the distribution of the scores of each layer: a strip per layer, one axis for all.

    Args:
        scores: Unit name -> (size,) |alpha|, on the CPU.
        bins: Number of intervals.

    Returns:
        The picture, (height, width, 3) uint8 RGB.

    Raises:
        ValueError: There are no scores.
    """
    if not scores:
        raise ValueError("There are no scores to draw.")
    values = {name: score.detach().float().numpy() for name, score in scores.items()}
    finite = np.concatenate([v[np.isfinite(v)] for v in values.values()])
    top = float(finite.max()) if finite.size else 0.0
    top = top if top > 0 else 1.0
    # The largest score belongs into the last interval.
    edges = np.linspace(0, top * (1 + 1e-6), bins + 1)
    strips = np.stack([np.histogram(v, edges)[0] / max(v.size, 1) for v in values.values()])
    names = list(values)
    cmap = colormaps["magma_r"].with_extremes(bad="white")
    many = 0.21 * len(names) + 1.5 > LARGEST
    figure, axes = _figure(8.0, min(LARGEST, max(2.4, 0.21 * len(names) + 1.5)))
    picture = axes.imshow(
        # Few scores in one place must not vanish beside many in another.
        np.sqrt(np.ma.masked_equal(strips, 0)),
        aspect="auto",
        interpolation="nearest",
        cmap=cmap,
        vmin=0,
        vmax=max(float(np.sqrt(strips.max())), 1e-6),
        extent=(0, edges[-1], len(names) - 0.5, -0.5),
    )
    for place, v in enumerate(values.values()):
        good = v[np.isfinite(v)]
        if good.size:
            axes.plot(
                np.median(good), place, "|", color="#009E73", markersize=9, markeredgewidth=2.5
            )
    _mark_rows(axes, names)
    if many:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(names)} units in the order of the network")
    else:
        axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=8)
    axes.set_xlabel("|alpha|   (mark: median of the layer)")
    bar = figure.colorbar(picture, ax=axes, pad=0.09, fraction=0.04)
    ticks = np.linspace(0, np.sqrt(strips.max()), 5)
    bar.set_ticks(ticks, labels=[f"{100 * t * t:.1f} %" for t in ticks])
    bar.set_label("share of the layer's scores")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _figure(width: float, height: float):
    # Figures without pyplot: nothing global, no display needed.
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: str | Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _kind(name: str) -> str:
    last = name.rpartition(".")[2].lower()
    return "attention" if "attn" in last or "attention" in last or "msa" in last else "mlp"


def _parts(name: str) -> tuple[str, str]:
    """A layer's stage (up to its first numbered part), and its name inside."""
    parts = name.split(".")
    for end, part in enumerate(parts, start=1):
        if part[-1:].isdigit() and end < len(parts):
            return ".".join(parts[:end]), ".".join(parts[end:])
    return "", name


def _short(name: str) -> str:
    inside = _parts(name)[1].split(".")
    # Of "blocks.0.attn.w_msa" the number and the kind say all.
    number = [part for part in inside if part.isdigit()]
    last = "attn" if _kind(name) == "attention" else inside[-1]
    return " ".join([*number, last])


def _stages(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Stages in order, each with the places of its first layer and behind its last."""
    found: list[tuple[str, int, int]] = []
    for place, name in enumerate(names):
        stage = _parts(name)[0]
        if found and found[-1][0] == stage:
            found[-1] = (stage, found[-1][1], place + 1)
        else:
            found.append((stage, place, place + 1))
    return found


def _mark_stages(axes, names: Sequence[str]) -> None:
    for number, (stage, first, end) in enumerate(_stages(names)):
        if number % 2 == 0:
            axes.axvspan(first - 0.5, end - 0.5, color="0.95", zorder=0, linewidth=0)
        axes.text(
            (first + end - 1) / 2,
            1.01,
            ".".join(stage.split(".")[-2:]),
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color="0.3",
        )


def _mark_rows(axes, names: Sequence[str]) -> None:
    for stage, first, end in _stages(names):
        if first:
            axes.axhline(first - 0.5, color="0.3", linewidth=0.8)
        axes.text(
            1.01,
            (first + end - 1) / 2,
            ".".join(stage.split(".")[-2:]),
            transform=axes.get_yaxis_transform(),
            ha="left",
            va="center",
            rotation=90,
            fontsize=8,
            color="0.3",
        )
