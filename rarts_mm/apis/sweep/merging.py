"""The results of a sweep's jobs in one table."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rarts_mm.analysis import ResultsTable
from rarts_mm.analysis.tables import COUNT, Format

from ..errors import UsageError
from ..metrics import headline, metric_format
from .local import is_done
from .spec import Job, Sweep

# Of the tables that compress writes; the other columns are metrics.
_FORMATS: dict[str, Format] = {"model": None, "parameters": COUNT, "FLOPs": COUNT, "latency": "ms"}


def merge(sweep: Sweep) -> list[ResultsTable]:
    """Make ``results.md`` and ``results.json`` in the sweep's folder of the jobs that are done.

    Where seeds vary, ``results_mean.*`` has the mean and the standard deviation over them.

    Returns:
        The tables; one alone if no seed varies.
    """
    done = [job for job in sweep.jobs if is_done(job)]
    rows = [row for job in done for row in _rows(sweep, job)]
    missing = [job.name for job in sweep.jobs if job not in done]
    notes = [f"sweep: {sweep.path}; {len(done)} of {len(sweep.jobs)} jobs are done"]
    if missing:
        notes.append(f"not done: {', '.join(missing)}")
    point = {name: None for job in sweep.jobs[:1] for name in job.point}
    found = [name for name in dict.fromkeys(k for row in rows for k in row) if name not in point]
    formats = {name: _FORMATS.get(name, metric_format(name)) for name in found}
    tables = [
        ResultsTable(
            {**point, **formats},
            [{name: row.get(name) for name in (*point, *found)} for row in rows],
            title="Sweep",
            notes=notes,
        )
    ]
    tables[0].write(sweep.work_dir / "results")
    if sweep.seeds is not None:
        tables.append(_means(sweep, rows, point, formats, notes))
        tables[1].write(sweep.work_dir / "results_mean")
    return tables


def _rows(sweep: Sweep, job: Job) -> Iterator[dict[str, Any]]:
    point = {name: _shown(value) for name, value in job.point.items()}
    if sweep.tool == "compress":
        file = job.folder / "results.json"
        try:
            rows = json.loads(file.read_text())["rows"]
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"{job.name} is done, but {file} cannot be read ({error}); remove {job.record} to let it "
                "run again"
            ) from error
        for row in rows:
            yield {**point, **row}
    else:
        yield {**point, **headline(_last_validation(job.folder))}


def _shown(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _last_validation(folder: Path) -> dict[str, float]:
    """The metrics of a training's last validation; none where it has none."""
    for file in sorted(folder.glob("*/vis_data/scalars.json"), reverse=True):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        # A validation's lines have the time of its data, and no learning rate.
        metrics = [line for line in lines if "data_time" in line and "lr" not in line]
        if metrics:
            # The log's own entries, which no evaluator gave, have no slash.
            return {k: v for k, v in metrics[-1].items() if "/" in k}
    return {}


def _means(
    sweep: Sweep, rows: list[dict], point: dict, formats: dict[str, Format], notes: list[str]
) -> ResultsTable:
    keys = [name for name in (*point, "model") if name != sweep.seeds]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    columns: dict[str, Format] = {key: None for key in keys if key != "model" or "model" in formats}
    columns["seeds"] = ""
    for name, how in formats.items():
        if name != "model":
            columns[name] = how
            columns[f"sd of {name}"] = how
    out = []
    for group, members in groups.items():
        row = {k: v for k, v in zip(keys, group, strict=True) if k in columns}
        row["seeds"] = len(members)
        for name in formats:
            values = [m[name] for m in members if m.get(name) is not None]
            if name == "model" or not values:
                continue
            row[name] = statistics.fmean(values)
            row[f"sd of {name}"] = statistics.stdev(values) if len(values) > 1 else None
        out.append({name: row.get(name) for name in columns})
    return ResultsTable(
        columns,
        out,
        title="Means over the seeds",
        notes=[*notes, "sd: standard deviation of the sample"],
    )
