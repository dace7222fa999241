"""Tables on the screen, in Markdown and in JSON."""

import io
import json

import pytest
from rich.console import Console

from rarts_mm.analysis import ResultsTable

COLUMNS = {
    "model": None,
    "mAP": lambda value: f"{100 * value:.1f}",
    "parameters": "n",
    "FLOPs": "n",
    "removed": "%",
    "latency": "ms",
}


@pytest.fixture
def table():
    return ResultsTable(
        COLUMNS,
        [
            {"model": "base|line [1]", "mAP": 0.506, "parameters": 85_629_804, "latency": 12.345},
            ("40 %", 0.492, 74_000_000, 708.18e9, 0.4, 10),
        ],
        title="Results",
        notes=["On one [machine]."],
    )


def test_formats(table):
    assert table.cells() == [
        ["base|line [1]", "50.6", "85.63 M", "–", "–", "12.35 ms"],
        ["40 %", "49.2", "74.00 M", "708.18 G", "40.0 %", "10.00 ms"],
    ]


@pytest.mark.parametrize(
    ("counts", "written"),
    [
        ([416, 7], ["416", "7"]),
        ([18_720, 120], ["18.72 K", "0.12 K"]),
        ([316_000, 99_000, None], ["0.32 M", "0.10 M", "–"]),
        ([5_380_000_000, 320_000_000], ["5.38 G", "0.32 G"]),
        ([], []),
    ],
)
def test_counts_of_a_column_are_written_alike(counts, written):
    table = ResultsTable({"FLOPs": "n"}, [[count] for count in counts])
    assert [cell for (cell,) in table.cells()] == written


def test_markdown(table):
    assert table.markdown().splitlines() == [
        "**Results**",
        "",
        "| model | mAP | parameters | FLOPs | removed | latency |",
        "|---|---:|---:|---:|---:|---:|",
        "| base\\|line [1] | 50.6 | 85.63 M | – | – | 12.35 ms |",
        "| 40 % | 49.2 | 74.00 M | 708.18 G | 40.0 % | 10.00 ms |",
        "",
        "On one [machine].",
    ]


def test_screen_shows_brackets_as_they_are(table):
    screen = io.StringIO()
    table.print(Console(file=screen, width=100))
    for text in ("Results", "base|line [1]", "708.18 G", "On one [machine]."):
        assert text in screen.getvalue()


def test_write(table, tmp_path):
    # What looks like a suffix is none.
    data, text = table.write(tmp_path / "new" / "pruned_37.5")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {
        "pruned_37.5.json",
        "pruned_37.5.md",
    }
    assert json.loads(data.read_text()) == table.to_dict()
    assert table.to_dict()["rows"][0]["parameters"] == 85_629_804
    assert table.to_dict()["rows"][0]["FLOPs"] is None
    assert text.read_text() == table.markdown()


def test_a_table_that_cannot_be_written_leaves_the_old_one(table, tmp_path):
    table.write(tmp_path / "results")
    old = (tmp_path / "results.json").read_text()
    broken = ResultsTable({"model": None}, [{"model": object()}])
    with pytest.raises(TypeError):
        broken.write(tmp_path / "results")
    assert (tmp_path / "results.json").read_text() == old
    assert len(list(tmp_path.iterdir())) == 2


def test_errors():
    with pytest.raises(ValueError, match=r"'size' has the unit 'GB'.*'ms'"):
        ResultsTable({"size": "GB"})
    with pytest.raises(ValueError, match="2 values, but there are 1 columns"):
        ResultsTable({"a": ""}, [(1, 2)])
    with pytest.raises(ValueError, match=r"A row has \['b'\]"):
        ResultsTable({"a": ""}, [{"b": 1}])
