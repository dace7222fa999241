"""tools/solvable_model.py: the limits, the early end, the options, the figure."""

import json

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from rarts_mm.analysis.plots import COLOURS
from rarts_mm.analysis.trajectories import plot_trajectories, solvable_panels, trajectory
from rarts_mm.registry import ALTERNATIONS
from rarts_mm.search import RARTS, Lagrangian, Point, SolvableModel, solve
from tests.conftest import run_tool


def run(*arguments) -> dict:
    status, out, err = run_tool("solvable_model", *arguments)
    assert status == 0, err
    return json.loads(out)


def error(*arguments) -> str:
    status, out, err = run_tool("solvable_model", *arguments)
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    return err


@pytest.mark.slow
def test_the_published_limit(tmp_path):
    file = tmp_path / "new" / "limit.json"
    arguments = ["--alternation", "rarts", "--lam", "10", "--beta", "10", "--steps", "20000"]
    found = run(*arguments, "--json", file)
    assert json.loads(file.read_text()) == found
    for name, value in dict(alpha=40 / 37, w=38 / 37, u=34 / 37, lagrangian=-3 / 37).items():
        assert found[name] == pytest.approx(value, abs=1e-9)
    assert found["closed_form"]["alpha"] == 40 / 37
    assert set(found["residuals"]) == {"w", "u", "alpha"}
    assert max(found["residuals"].values()) < 1e-9
    assert found["converged"] is True
    assert found["diverged"] is False
    assert found["steps"] < 20000


@pytest.mark.parametrize(
    ("name", "options", "alpha"),
    [
        ("RARTS-Jacobi", "--lam 1 --beta 1 --eta 0.3", 4),
        ("DARTS1", "--first alpha --eta 0.2", 2),
        ("darts-2", "--xi 0.25 --derivative exact --eta 0.2", 4 / 3),
        ("darts2", "--eta 0.25", 4 / 3),
        ("MILENAS", "--lam 0.5 --eta 0.3", 2),
        ("joint", "--lam 10 --eta 0.04", 40 / 39),
        ("weights_only", "--start 1.5 0 --eta 0.05", 1.5),
        ("rarts", "--coupling decoupled --momentum 0.5 --eta 0.05", 8 / 7),
    ],
)
def test_each_alternation_ends_at_its_closed_form(name, options, alpha):
    found = run("--alternation", name, *options.split())
    assert found["converged"]
    assert found["alpha"] == pytest.approx(alpha, abs=1e-8)
    assert found["closed_form"]["alpha"] == pytest.approx(alpha, abs=1e-12)
    assert found["w"] == pytest.approx(found["closed_form"]["w"], abs=1e-8)
    assert (found["u"] is None) == ("rarts" not in name.lower())
    assert max(found["residuals"].values()) < 1e-7
    assert (found["lagrangian"] is None) == name.lower().startswith("darts")


def test_steps_start_and_orders_reach_the_search():
    found = run("--steps", 3, "--start", 1, -0.5, 2.5, "--eta", 0.02, "--lam", 3, "--beta", 4)
    wanted = solve(RARTS(), Lagrangian(3, 4), 3, SolvableModel(Point(1, -0.5, 2.5), 0.02))
    assert {name: found[name] for name in ("alpha", "w", "u")} == vars(wanted)
    assert found["steps"] == 3
    assert not found["converged"]
    assert not found["diverged"]
    ends = {
        order: run("--alternation", "darts1", "--first", order, "--steps", 1)
        for order in ("w", "alpha")
    }
    assert ends["w"]["alpha"] == pytest.approx(2.0392, abs=1e-12)
    assert ends["alpha"]["alpha"] == pytest.approx(2.04, abs=1e-12)


def test_divergence_is_said_and_ends_the_run():
    found = run("--alternation", "rarts-jacobi", "--lam", 50, "--beta", 50)
    assert found["diverged"] is True
    assert found["converged"] is False
    assert found["steps"] < 100
    assert found["closed_form"] is not None
    found = run("--lam", 0.4, "--beta", 1, "--eta", 0.3)
    assert found["diverged"] is True
    assert found["closed_form"] is None
    # JSON has no infinity.
    found = run("--eta", 1e300, "--lam", 1e9)
    assert found["diverged"] is True
    assert found["lagrangian"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--alternation gdas", ["gdas", "rarts", "rartsjacobi", "darts2", "milenas", "joint"]),
        ("--lam -1", ["lam", "-1", ">= 0"]),
        ("--beta nan", ["beta", "nan"]),
        ("--eta 0", ["eta", "> 0", "0.01"]),
        ("--eta inf", ["eta", "inf"]),
        ("--momentum 1", ["momentum", "1.0", "below 1"]),
        ("--steps 0", ["steps=0", "at least 1"]),
        ("--steps 1.5", ["--steps", "1.5"]),
        ("--alternation darts2 --xi -0.5", ["xi=-0.5", ">= 0"]),
        ("--alternation darts2 --derivative numeric", ["numeric", "exact"]),
        ("--alternation darts1 --first u", ["'u'", "'alpha'"]),
        ("--coupling hard", ["hard", "decoupled"]),
        ("--xi 0.5", ["--xi 0.5", "RARTS", "leave --xi out"]),
        ("--first w", ["--first w", "RARTS"]),
        ("--alternation darts1 --beta 3", ["--beta 3", "DARTS1", "--first"]),
        ("--alternation darts1 --lam 3", ["--lam 3", "DARTS1"]),
        ("--alternation darts2 --coupling gradient", ["--coupling gradient", "DARTS2", "--xi"]),
        ("--alternation joint --beta 1", ["--beta 1", "Joint", "--lam"]),
        ("--alternation milenas --derivative exact", ["--derivative exact", "MiLeNAS"]),
        ("--start 1 2", ["--start 1 2", "ALPHA W U"]),
        ("--start 1 2 nan", ["--start 1 2 nan", "finite"]),
        ("--alternation joint --start 1 2 3", ["--start 1 2 3", "ALPHA W", "no u"]),
        ("--plot figure.xyz", ["figure.xyz", "png"]),
        ("--plot figure", ["figure", "png"]),
        ("--lam ten", ["--lam", "ten"]),
    ],
)
def test_bad_values_name_value_reason_and_remedy(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = error(*arguments.split(), "--json", "out.json")
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_picture(tmp_path):
    (tmp_path / "a.png").mkdir()
    assert "is a folder" in error("--plot", tmp_path / "a.png")


def test_the_help_names_every_alternation():
    status, out, _ = run_tool("solvable_model", "--help")
    assert status == 0
    known = {name.lower() for name in ALTERNATIONS.module_dict}
    assert all(name in out.replace("-", "").replace("\n", " ") for name in known)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def has_colour(picture, colour):
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return (np.abs(picture - wanted).max(axis=-1) <= 2).sum() > 50


def test_the_figure(tmp_path):
    """Three panels, with all alternations in each."""
    path = tmp_path / "new" / "figure.png"
    arguments = [
        "--alternation",
        "rarts",
        "--lam",
        "1",
        "--beta",
        "5",
        "--eta",
        "0.1",
        "--start",
        "2",
        "-2",
        "0.5",
        "--steps",
        "20",
    ]
    run(*arguments, "--plot", path)
    picture = pixels(path)
    thirds = np.array_split(picture, 3, axis=1)
    for third in thirds:
        above = third[: 3 * len(third) // 4]
        assert all(has_colour(above, COLOURS[i]) for i in (1, 2, 3, 4))
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]


def test_panels_hold_the_searches_ways():
    panels = solvable_panels(lam=1, beta=5, eta=0.1, start=Point(2.0, -2.0, 0.5))
    assert [list(p.rarts) for p in panels] == [
        ["λ = 0.2", "λ = 1", "λ = 3"],
        ["β = 1", "β = 5", "β = 15"],
        ["u₀ = -1.5", "u₀ = 0.5", "u₀ = 2.5"],
    ]
    assert all(
        np.array_equal(p.rarts[k], panels[0].rarts["λ = 1"])
        for p, k in zip(panels, ("λ = 1", "β = 5", "u₀ = 0.5"), strict=True)
    )
    for panel in panels:
        for way in (*panel.rarts.values(), *panel.others.values()):
            assert way[0].tolist() == [2, -2]
        ends = {name: way[-1] for name, way in panel.others.items()}
        for name in ("DARTS, first order", "MiLeNAS"):
            assert ends[name] == pytest.approx([2, 2], abs=1e-3)
        assert ends["DARTS, second order, ξ = 0.5"] == pytest.approx([1, 1], abs=1e-3)
        assert ends["joint"] == pytest.approx([4 / 3, 2 / 3], abs=1e-3)
    # The first step of the line with beta = 15, by hand.
    way = panels[1].rarts["β = 15"]
    w = -2 - 0.1 * (2 * -4 + 15 * -2.5)
    u = 0.5 - 0.1 * (2 + 15 * (0.5 - w))
    assert way[1] == pytest.approx([2 - 0.1 * (2 * (2 - w) + u - 2), w])


@pytest.mark.parametrize("name", ["lam", "beta"])
def test_a_weight_of_zero_is_drawn_once(tmp_path, name):
    """It has no multiples."""
    path = tmp_path / "zero.png"
    run(f"--{name}", 0, "--eta", 0.1, "--steps", 5, "--plot", path)
    pictures = np.array_split(pixels(path), 3, axis=1)
    assert all(has_colour(p[: 3 * len(p) // 4], COLOURS[3]) for p in pictures)
    panels = solvable_panels(**{"lam": 10.0, "beta": 10.0, name: 0.0}, eta=0.1)
    which, symbol = (0, "λ") if name == "lam" else (1, "β")
    assert [len(p.rarts) for p in panels] == [1 if i == which else 3 for i in range(3)]
    assert list(panels[which].rarts) == [f"{symbol} = 0"]
    assert np.array_equal(panels[which].rarts[f"{symbol} = 0"], panels[2].rarts["u₀ = 0"])


def test_near_values_are_told_apart():
    panel = solvable_panels(eta=0.1, start=Point(2.0, -2.0, 1e7))[2]
    assert list(panel.rarts) == ["u₀ = 9999998", "u₀ = 10000000", "u₀ = 10000002"]


def test_a_way_that_leaves_ends_there():
    way = trajectory(RARTS(), Lagrangian(100, 100), SolvableModel(eta=0.5), steps=500)
    assert len(way) < 20
    assert np.abs(way[:-1]).max() < 100


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no trajectories"):
        plot_trajectories([], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
