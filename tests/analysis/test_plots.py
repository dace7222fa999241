"""Pictures: they are there, whole, and show what they should."""

import sys

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from rarts_mm.analysis import draw_score_histograms, plot_curve, plot_widths
from rarts_mm.analysis.plots import COLOURS

NAMES = [
    f"backbone.stages.{stage}.blocks.{block}.{part}"
    for stage, depth in enumerate((2, 2, 6, 2))
    for block in range(depth)
    for part in ("attn.w_msa", "ffn")
]
SIZES = {name: 32 if name.endswith("w_msa") else 384 for name in NAMES}


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def has_colour(picture, colour):
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return (np.abs(picture - wanted).max(axis=-1) <= 2).sum() > 50


def test_widths(tmp_path):
    kept = {f"{p} %": {n: s * (100 - p) // 100 for n, s in SIZES.items()} for p in (20, 40)}
    plot_widths(SIZES, kept, tmp_path / "new" / "widths.png")
    picture = pixels(tmp_path / "new" / "widths.png")
    assert picture.shape[1] > picture.shape[0] > 300
    assert has_colour(picture, COLOURS[0])
    assert has_colour(picture, COLOURS[1])
    assert not has_colour(picture, COLOURS[2])
    assert "matplotlib.pyplot" not in vars(sys.modules["rarts_mm.analysis.plots"])


def test_widths_show_how_much_remains(tmp_path):
    def height(share):
        path = tmp_path / f"{share}.png"
        plot_widths(SIZES, {"": {n: int(share * s) for n, s in SIZES.items()}}, path)
        picture = pixels(path)
        wanted = np.round(255 * np.array(to_rgb(COLOURS[0])))
        # The axes, without the legend beside them.
        rows, columns = np.nonzero(np.abs(picture - wanted).max(axis=-1) <= 2)
        return np.median(rows[columns < 0.8 * picture.shape[1]])

    quarter, half, most = height(0.25), height(0.5), height(0.75)
    assert quarter - half == pytest.approx(half - most, abs=3)
    assert quarter > half


@pytest.mark.parametrize("widths", [{}, {NAMES[0]: 33}])
def test_widths_that_cannot_be(tmp_path, widths):
    with pytest.raises(ValueError, match=r"'40 %' keeps .* of the 32 dimensions"):
        plot_widths({NAMES[0]: 32}, {"40 %": widths}, tmp_path / "widths.png")
    with pytest.raises(ValueError, match="no widths"):
        plot_widths({}, {}, tmp_path / "widths.png")
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_is_unknown_leaves_the_old_picture(tmp_path):
    path = tmp_path / "widths.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="txt"):
        plot_widths({NAMES[0]: 32}, {"": {NAMES[0]: 16}}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["widths.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("baseline", [None, 50.6, {"box": 50.6, "mask": 43.9}])
def test_curve(tmp_path, baseline):
    metrics = {"box": [50.4, 49.2, 40.0], "mask": [43.7, float("nan"), 30.0]}
    plot_curve([0.2, 0.4, 0.6], metrics, tmp_path / "curve.png", baseline=baseline, title="COCO")
    picture = pixels(tmp_path / "curve.png")
    assert has_colour(picture, COLOURS[0])
    assert has_colour(picture, COLOURS[1])


def test_curve_errors(tmp_path):
    with pytest.raises(ValueError, match="1 values for 2 ratios"):
        plot_curve([0.2, 0.4], {"box": [1.0]}, tmp_path / "curve.png")
    with pytest.raises(ValueError, match="no curve"):
        plot_curve([], {}, tmp_path / "curve.png")


def test_histograms():
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.randn(s, generator=generator).abs() for n, s in SIZES.items()}
    picture = draw_score_histograms(scores)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.flags.c_contiguous
    assert picture.std() > 10
    # A strip more is a taller picture.
    assert draw_score_histograms({NAMES[0]: scores[NAMES[0]]}).shape[0] < picture.shape[0]


def test_histograms_share_an_axis():
    def place(first):
        """Where, from left to right in [0, 1], the first layer's scores are drawn."""
        scores = {"a.0.ffn": torch.full((9,), first), "b.0.ffn": torch.full((9,), 0.9)}
        brightness = draw_score_histograms(scores).astype(int).sum(axis=-1)
        # The first strip's upper part, without labels and colour bar on its left and right.
        strip = brightness[8:40, 90 : int(0.7 * brightness.shape[1])]
        return np.nonzero(strip < 60)[1].mean() / strip.shape[1]

    # The second layer's 0.9 is the end of the axis for both.
    assert place(0.5) - place(0.3) == pytest.approx(place(0.7) - place(0.5), abs=0.03)
    assert 0.05 < place(0.1) < 0.2 < 0.4 < place(0.5) < 0.75


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 1.0])
def test_histograms_of_one_value(value):
    assert draw_score_histograms({"ffn": torch.full((5,), value)}).shape[2] == 3


def test_no_histograms():
    with pytest.raises(ValueError, match="no scores"):
        draw_score_histograms({})
