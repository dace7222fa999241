"""Pictures of derived cells: boxes and arrows, by matplotlib alone."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve

from rarts_mm.files import atomic_write

from .genotype import INPUTS, Genotype, Pair
from .layout import Layout, place

TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}
# Kinds of operations in Okabe and Ito's colours, which everybody can tell apart.
KINDS = {
    "skip": ("#D55E00", "skip connection"),
    "pool": ("#009E73", "pooling"),
    "sep": ("#0072B2", "separable convolution"),
    "dil": ("#9A4F96", "dilated convolution"),
}
JOINED = "0.55"
# In inches, which are the units of the axes.
STEP, LAST_STEP = 2.6, 1.7  # between layers, and to the output, which has no operations
NODE, OPERATION = (0.52, 0.44), (1.18, 0.26)
OPERATION_LEFT = 1.22  # of its node
APART = 0.36  # the two operations of a node
ROOM_NODE, ROOM_LINE = 1.0, 0.42
MARGIN, HEADING = 0.3, 0.45


@dataclass(frozen=True)
class _Edge:
    """An arrow and the items it passes: its source, a point in each layer between, its target."""

    route: tuple
    operation: str | None


def draw_cells(genotype: Genotype) -> Figure:
    """The two cells, one below the other: inputs on the left, the output on the right.

    The operation of an arrow stands in front of the node that adds its result up.
    """
    cells = {cell: _laid_out(genotype, cell) for cell in ("normal", "reduce")}
    widths = [STEP * (len(layout.layers) - 2) + LAST_STEP for layout, _ in cells.values()]
    heights = [_extent(layout) for layout, _ in cells.values()]
    width = max(widths) + 2 * MARGIN + 1.0
    height = sum(top - bottom + HEADING + MARGIN for bottom, top in heights) + HEADING
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-MARGIN - 0.5, width - MARGIN - 0.5)
    axes.set_ylim(-height, 0)
    axes.set_axis_off()
    above = 0.0
    for (cell, (layout, edges)), (bottom, top) in zip(cells.items(), heights, strict=True):
        share = genotype.skip_shares[cell]
        title = f"{TITLES[cell]}   (skip connections: {share:.0%})"
        axes.text(-0.5, above - HEADING / 2, title, fontsize=12, va="center", weight="bold")
        _Cell(axes, layout, above - HEADING - top).draw(edges)
        above -= top - bottom + HEADING + MARGIN
    _add_legend(axes, genotype, above - HEADING / 2)
    return figure


def save_cells(genotype: Genotype, path: str | Path) -> None:
    """Write the picture, PNG or SVG by its suffix; whole or not at all, the same bytes every time."""
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"pictures of cells are .png or .svg, not {path.name!r}")
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    # Text stays text in an SVG, so that it can be searched and needs no font of this machine.
    with rc_context({"svg.hashsalt": "rarts_mm", "svg.fonttype": "none"}):
        figure = draw_cells(genotype)
        FigureCanvasAgg(figure)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=150, metadata=metadata)


def _laid_out(genotype: Genotype, cell: str) -> tuple[Layout, list[_Edge]]:
    nodes = genotype.nodes(cell)
    depth = [0] * INPUTS
    for node in nodes:
        depth.append(1 + max(depth[source] for _, source in node))
    last = max(depth) + 1
    output = INPUTS + len(nodes)
    depth.append(last)
    pairs: list[tuple[int, int, str | None]] = [
        (source, INPUTS + i, operation)
        for i, node in enumerate(nodes)
        for operation, source in node
    ]
    pairs += [(node, output, None) for node in getattr(genotype, f"{cell}_concat")]
    layers: list[list] = [[] for _ in range(last + 1)]
    for item, layer in enumerate(depth):
        layers[layer].append(item)
    edges, links = [], []
    for i, (source, target, operation) in enumerate(pairs):
        between = [(i, layer) for layer in range(depth[source] + 1, depth[target])]
        for point in between:
            layers[point[1]].append(point)
        edges.append(_Edge((source, *between, target), operation))
        links += pairwise(edges[-1].route)
    room = {item: _room(item) for layer in layers for item in layer}
    return place(layers, links, room), edges


def _extent(layout: Layout) -> tuple[float, float]:
    ends = [(y, _room(item) / 2) for item, y in layout.y.items()]
    return min(y - room for y, room in ends), max(y + room for y, room in ends)


def _room(item: Hashable) -> float:
    return ROOM_NODE if isinstance(item, int) else ROOM_LINE


class _Cell:
    """Draws one cell; ``y`` is the height of its layout's zero."""

    def __init__(self, axes: Axes, layout: Layout, y: float) -> None:
        self.axes, self.layout = axes, layout
        self.output = max(item for item in layout.y if isinstance(item, int))
        self.x = {item: STEP * i for i, layer in enumerate(layout.layers) for item in layer}
        self.x[self.output] += LAST_STEP - STEP
        self.y = {item: y + height for item, height in layout.y.items()}

    def draw(self, edges: Sequence[_Edge]) -> None:
        for node in [item for item in self.y if isinstance(item, int)]:
            arriving = [edge for edge in edges if edge.route[-1] == node]
            # From the top, as their lines arrive.
            arriving.sort(key=lambda edge: -self.y[edge.route[-2]])
            middle = (len(arriving) - 1) / 2
            for i, edge in enumerate(arriving):
                if edge.operation is None:
                    self._join(edge)
                else:
                    self._apply(edge, self.y[node] + APART * (middle - i))
            self._box(node)

    def _box(self, node: int) -> None:
        outer = node < INPUTS or node == self.output
        names = {0: "$c_{k-2}$", 1: "$c_{k-1}$", self.output: "$c_k$"}
        width, height = NODE
        self.axes.add_patch(
            FancyBboxPatch(
                (self.x[node] - width / 2, self.y[node] - height / 2),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor="#EAEAEA" if outer else "#FFF4C2",
                edgecolor="0.25",
                zorder=4,
            )
        )
        self.axes.text(
            self.x[node],
            self.y[node],
            names.get(node, str(node - INPUTS)),
            ha="center",
            va="center",
            fontsize=12,
            zorder=5,
        )

    def _apply(self, edge: _Edge, y: float) -> None:
        """Source, line, the operation, arrow, node."""
        node = edge.route[-1]
        colour = _colour(edge.operation)
        width, height = OPERATION
        centre = self.x[node] - OPERATION_LEFT
        self._line(edge.route, (centre - width / 2, y), colour)
        self.axes.add_patch(
            FancyBboxPatch(
                (centre - width / 2, y - height / 2),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor="white",
                edgecolor=colour,
                linewidth=1.3,
                zorder=4,
            )
        )
        self.axes.text(
            centre,
            y,
            edge.operation,
            ha="center",
            va="center",
            fontsize=8.5,
            color=colour,
            zorder=5,
        )
        start = (centre + width / 2, y)
        # To the node's side, nearer to its middle.
        end = (self.x[node] - NODE[0] / 2, self.y[node] + (y - self.y[node]) / 3)
        self._arrow(start, end, colour)

    def _join(self, edge: _Edge) -> None:
        end = (self.x[self.output] - NODE[0] / 2, self.y[self.output])
        knee = (end[0] - 0.2, end[1])
        self._line(edge.route, knee, JOINED)
        self._arrow(knee, end, JOINED)

    def _line(self, route: Sequence, end: tuple[float, float], colour: str) -> None:
        """A curve that is level where it starts, passes a layer, and ends."""
        source, *between = route[:-1]
        at = (self.x[source] + NODE[0] / 2, self.y[source])
        points, codes = [at], [Curve.MOVETO]
        for point in between:
            # Level along the operations and the nodes of that layer.
            left = self.x[point] - OPERATION_LEFT - OPERATION[0] / 2
            right = self.x[point] + NODE[0] / 2
            points += [*_bends(points[-1], (left, self.y[point])), (right, self.y[point])]
            codes += [Curve.CURVE4] * 3 + [Curve.LINETO]
        points += _bends(points[-1], end)
        codes += [Curve.CURVE4] * 3
        self.axes.add_patch(
            PathPatch(
                Curve(points, codes), facecolor="none", edgecolor=colour, linewidth=1.3, zorder=2
            )
        )

    def _arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        self.axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=11,
                shrinkA=0,
                shrinkB=0,
                color=colour,
                linewidth=1.3,
                zorder=3,
            )
        )


def _bends(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    middle = (start[0] + end[0]) / 2
    return [(middle, start[1]), (middle, end[1]), end]


def _kind(operation: str) -> str:
    return next(kind for kind in KINDS if kind in operation)


def _colour(operation: str) -> str:
    return KINDS[_kind(operation)][0]


def _add_legend(axes: Axes, genotype: Genotype, y: float) -> None:
    pairs: tuple[Pair, ...] = genotype.normal + genotype.reduce
    there = {_kind(operation) for operation, _ in pairs}
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=label)
        for kind, (colour, label) in KINDS.items()
        if kind in there
    ]
    handles.append(Line2D([], [], color=JOINED, linewidth=2, label="concatenation"))
    axes.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(-0.5, y),
        bbox_transform=axes.transData,
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        borderaxespad=0,
        borderpad=0,
    )
