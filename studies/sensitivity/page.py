"""The section "Latency" of studies/results.md: what Table 2 of IEEE Access 2022 looks like on digits."""

import datetime
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evidence.comparison import COLOURS, interval
from evidence.sections import write_section
from rarts_mm.analysis import ResultsTable
from rarts_mm.cells.latency_table import LatencyTable
from rarts_mm.files import atomic_write
from sensitivity.points import BASELINE, PAPER_MS, SWEEP, TITLES, Point, Small

SECTION = "latency"


def write_page(
    page: Path,
    runs: Sequence[dict],
    table: LatencyTable,
    small: Small,
    scale: float,
    rate_scale: float,
    varied: Sequence[str],
    command: str,
) -> None:
    """Write the section into the page, and its picture beside the page.

    Args:
        page: ``.../results.md``; the picture is ``.../results-latency.png``.
        runs: results of :func:`sensitivity.points.perform` with ``predicted`` and ``measured`` (ms).
        table: the latency table of the searches.
        small: their size.
        scale: what the latency weights were multiplied by.
        rate_scale: what alpha's learning rates were multiplied by.
        varied: names of the settings.
        command: what makes the section again.
    """
    by_point: dict[Point, list[dict]] = {}
    for run in runs:
        by_point.setdefault(Point(**run["task"]["point"]), []).append(run)
    picture = page.with_name(f"{page.stem}-latency.png")
    _draw(by_point, varied, picture)
    seeds = len({run["task"]["seed"] for run in runs})
    text = "\n".join(
        [
            _head(runs, table, small, scale, rate_scale, seeds, command),
            f"![Latency relative to the baseline]({picture.name})\n",
            _table(by_point, varied).markdown(),
            _sentences(by_point, varied, seeds),
        ]
    )
    write_section(page, SECTION, text)


def _head(
    runs: Sequence[dict],
    table: LatencyTable,
    small: Small,
    scale: float,
    rate_scale: float,
    seeds: int,
    command: str,
) -> str:
    where = table.measured
    return f"""## Latency: how it depends on the search's settings

    python tools/make_digits.py
    {command}

{where["device"].removeprefix("cpu: ")}, {where["threads"]} thread, {where["dtype"]}, one image at a time; torch {where["torch"]}, rarts_mm {where["rarts_mm"]}; {datetime.date.today()}.

IEEE Access 2022, Table 2, at a small size: RARTS on the DARTS space with C = {small.channels} and {small.layers} cells of {small.nodes} nodes, on the handwritten digits {_pixels(small)}, {small.epochs} epochs ({runs[0]["steps"]} steps at batch size {runs[0]["task"]["point"]["batch"]}), {seeds} seed{"s" if seeds > 1 else ""}.
One setting at a time leaves the baseline. The paper's networks take {PAPER_MS} ms, these far less, so that the same weight per millisecond would press less: weights are multiplied by {scale:.4g}{", which makes the mean derived network as slow as the paper's" if scale != 1 else ""}. Alpha's learning rates are multiplied by {rate_scale:.4g}{", as the paper's search has so many times as many steps for alpha to move in" if rate_scale != 1 else ""}. The table has the paper's weights and rates.

*Predicted*: the latency table's times of the chosen operations, over all cells. *Measured*: the derived network with as many channels and cells, with its stem and the convolutions before the operations; all networks in turns.
"""


def _pixels(small: Small) -> str:
    enlarged = "" if small.size == 8 else "enlarged to "
    return f"{enlarged or 'of '}{small.size} x {small.size} pixels"


def _table(by_point: Mapping[Point, Sequence[dict]], varied: Sequence[str]) -> ResultsTable:
    rows = []
    base = _mean(by_point[BASELINE], "predicted")
    for name in varied:
        for value, paper in SWEEP[name].items():
            point = _at(name, value)
            found = by_point[point]
            rows.append(
                {
                    "varied": TITLES[name],
                    "latency weight": point.weight,
                    "alpha lr": point.rate,
                    "alpha decay": point.decay,
                    "batch": point.batch,
                    "predicted, ms": _spread([run["predicted"] for run in found]),
                    "measured, ms": _spread([run["measured"] for run in found]),
                    "relative": _mean(found, "predicted") / base,
                    "paper's": paper / PAPER_MS,
                    "skip share": statistics.mean(run["skip_share"] for run in found),
                }
            )
    number = "{:g}".format
    columns = {
        "varied": None,
        "latency weight": number,
        "alpha lr": number,
        "alpha decay": number,
        "batch": "{:d}".format,
        "predicted, ms": None,
        "measured, ms": None,
        "relative": "{:.2f}".format,
        "paper's": "{:.2f}".format,
        "skip share": "{:.0%}".format,
    }
    notes = [
        "Mean ± 95 % interval over the seeds (Student's t). Relative: mean predicted latency over the "
        "baseline's; paper's: the same of the latencies that Table 2 prints, of one network each."
    ]
    return ResultsTable(columns, rows, notes=notes)


def _sentences(by_point: Mapping[Point, Sequence[dict]], varied: Sequence[str], seeds: int) -> str:
    """What the numbers say of the paper's two findings, as far as they can."""
    base = _mean(by_point[BASELINE], "predicted")
    lines = []
    for name in varied:
        ratios = [_mean(by_point[_at(name, v)], "predicted") / base for v in SWEEP[name]]
        paper = [ms / PAPER_MS for ms in SWEEP[name].values()]
        lines.append(
            f"- **{TITLES[name].capitalize()}**: {min(ratios):.2f} to {max(ratios):.2f} times the "
            f"baseline's latency; in the paper {min(paper):.2f} to {max(paper):.2f}."
        )
    lines.append(
        f"- The spread over {seeds} seed{'s' if seeds > 1 else ''} is in the table; differences within it "
        "say nothing."
    )
    return "\n".join(lines) + "\n"


def _at(name: str, value: float) -> Point:
    return Point(**{name: value})


def _mean(runs: Sequence[dict], key: str) -> float:
    return statistics.mean(run[key] for run in runs)


def _spread(values: Sequence[float]) -> str:
    return str(interval(values)) if len(values) > 1 else f"{values[0]:.2f}"


def _draw(by_point: Mapping[Point, Sequence[dict]], varied: Sequence[str], path: Path) -> None:
    figure = Figure(figsize=(3.2 * len(varied), 3.2), layout="constrained")
    panels = figure.subplots(1, len(varied), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, varied, strict=True):
        values = sorted(SWEEP[name])
        for key, colour, marker in (("predicted", COLOURS[1], "o"), ("measured", COLOURS[2], "s")):
            base = _mean(by_point[BASELINE], key)
            runs = {value: by_point[_at(name, value)] for value in values}
            panel.plot(
                values,
                [_mean(runs[v], key) / base for v in values],
                color=colour,
                marker=marker,
                label=f"{key}, mean",
            )
            panel.plot(
                [v for v in values for _ in runs[v]],
                [run[key] / base for v in values for run in runs[v]],
                color=colour,
                marker=".",
                linestyle="",
                alpha=0.4,
            )
        panel.plot(
            values,
            [SWEEP[name][v] / PAPER_MS for v in values],
            color=COLOURS[0],
            linestyle="--",
            marker="x",
            label="the paper's",
        )
        panel.set_xscale("log")
        panel.set_xticks(values, [f"{v:g}" for v in values], minor=False)
        panel.minorticks_off()
        panel.set_xlabel(TITLES[name])
    panels[0].set_ylabel("latency / baseline's")
    panels[0].legend(fontsize="small")
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
