"""Latency tables that are none, or whose numbers make no sense, through the command lines."""

import copy
import json

import pytest

from rarts_mm.apis.latency_table import make_latency_table
from rarts_mm.datasets import make_digits
from tests.conftest import CONFIGS, run_tool
from tests.tools.test_latency_tools import SMALL, SMALLER, search_with


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small_cells.py"
    path.write_text(SMALL.format(base=CONFIGS / "rarts_darts_cifar10.py"))
    return path


@pytest.fixture(scope="module")
def table(config, tmp_path_factory):
    """Content of a whole table."""
    out = tmp_path_factory.mktemp("tables") / "table.json"
    make_latency_table(config, out=out, size=(8, 8), repeats=1)
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    make_digits(folder)
    return folder


def changed(content, path, value):
    """The table with one entry replaced; ``path`` is its place, and may end in one that is new."""
    content = copy.deepcopy(content)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    place = content
    for key in parents:
        place = place[key]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return content


MISSING = object()
NAN = float("nan")
CASES = [
    ("latencies/normal/0/1", NAN, "latencies.normal.0 (max_pool_3x3) is nan"),
    ("latencies/reduce/3/0", -1.0, "latencies.reduce.3 (none) is -1.0"),
    ("latencies/reduce/3/0", "fast", "latencies.reduce.3 (none) is 'fast'"),
    ("latencies/normal/0", [1.0, 2.0], "must be 8 numbers"),
    ("latencies/normal", 3, "latencies.normal is 3"),
    ("latencies", [[1.0]], "latencies is [[1.0]]"),
    ("latencies", MISSING, "latencies is missing"),
    ("shapes", [], "shapes is []"),
    ("shapes", MISSING, "shapes is missing"),
    ("shapes/0", "conv", "shapes.0 is 'conv'"),
    ("shapes/0/operations/none/median", NAN, "shapes.0.operations.none.median is nan"),
    ("shapes/0/operations/none/upper", -2, "shapes.0.operations.none.upper is -2"),
    ("shapes/0/operations/none/repeats", 0, "shapes.0.operations.none.repeats is 0"),
    ("shapes/0/operations/none", 0.1, "shapes.0.operations.none is 0.1"),
    ("shapes/0/operations/conv_9x9", {}, "differ in conv_9x9"),
    ("shapes/0/operations/none", MISSING, "differ in none"),
    ("shapes/0/input", [2, 8], "shapes.0.input is [2, 8]"),
    ("shapes/0/places", {"normal": -1}, "shapes.0.places.normal is -1"),
    ("network", "DARTS", "network is 'DARTS'"),
    ("network/operations", "none", "network.operations is 'none'"),
    ("network/input_size", 32, "network.input_size is 32"),
    ("network/channels", 0, "network.channels is 0"),
    ("measured", [], "measured is []"),
    ("measured/threads", "2", "measured.threads is '2'"),
    ("measured/batch_size", -1, "measured.batch_size is -1"),
    ("measured/dtype", "double32", "measured.dtype is 'double32'"),
    ("measured/dtype", MISSING, "measured.dtype is missing"),
]


@pytest.mark.parametrize(("path", "value", "message"), CASES)
def test_a_report_of_a_broken_table(table, tmp_path, path, value, message):
    file = tmp_path / "table.json"
    file.write_text(json.dumps(changed(table, path, value)))
    status, _, err = run_tool(
        "latency_report", "DARTS_V1", file, "--json", tmp_path / "report.json"
    )
    assert status == 2
    (line,) = err.splitlines()
    assert f"{file} is no latency table: " in line
    assert message in line
    assert "measure one" in line
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("text", ["[1, 2]", '"fast"', "3", "null", "{", "", "\xff", "[" * 10**5])
def test_a_report_of_what_is_no_table(tmp_path, text):
    file = tmp_path / "table.json"
    file.write_text(text, encoding="latin-1")
    status, _, err = run_tool("latency_report", "DARTS_V1", file)
    assert status == 2
    (line,) = err.splitlines()
    assert f"{file} is no latency table: " in line


def test_a_derivation_with_a_broken_table(config, table, tmp_path):
    """Refused before anything is written, where it was asked for; said, where it is the search's."""
    file = tmp_path / "table.json"
    file.write_text(json.dumps(changed(table, "latencies/normal/0/1", NAN)))
    folder = search_with(tmp_path / "asked", config)
    status, _, err = run_tool("derive", folder, "--latency", file, *SMALLER)
    assert status == 2
    assert "latencies.normal.0 (max_pool_3x3) is nan" in err
    assert not (folder / "derived_cifar").exists()
    penalty = dict(type="LatencyPenalty", latencies=str(file))
    folder = search_with(tmp_path / "own", config, penalty)
    status, out, err = run_tool("derive", folder, *SMALLER)
    assert status == 0, err
    assert "latency not measured" in out
    assert "is nan" in out


@pytest.mark.parametrize(
    ("latencies", "message"),
    [
        ("[1.0]", "latencies=[1.0] must be a dict"),
        ("5", "latencies=5 must be a dict"),
        ("dict(latencies=[1.0])", "latencies is [1.0], not a dict"),
        ("dict(latencies=None)", "latencies is None, not a dict"),
        ("dict(latencies=dict(normal=[1.0]), network=['DARTS'])", "network is ['DARTS']"),
        ("dict(latencies=dict(normal=[1.0]), network=dict(input_size=3))", "input_size"),
        ("dict(normal=[float('nan')] * 8, reduce=[1.0] * 8)", "latencies.normal=[nan"),
        ("dict(normal=[-1.0] * 8, reduce=[1.0] * 8)", "'normal' must be finite numbers >= 0"),
        ("dict(normal=['a'] * 8, reduce=[1.0] * 8)", "'normal' are no array of numbers"),
    ],
)
def test_a_search_with_latencies_that_make_no_sense(digits, tmp_path, latencies, message):
    config = tmp_path / "search.py"
    config.write_text(
        f"_base_ = '{CONFIGS}/rarts_darts_digits.py'\n"
        f"optim_wrapper = dict(penalty=dict(type='LatencyPenalty', gamma=0.1, "
        f"latencies={latencies}))\n"
    )
    options = ("--cfg-options",)
    options += tuple(f"{part}_dataloader.dataset.data_root={digits}" for part in ("train", "val"))
    status, _, err = run_tool("train", config, "--work-dir", tmp_path / "run", *options)
    assert status == 2, err
    assert message in err
    assert "Traceback" not in err
