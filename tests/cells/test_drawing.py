"""Pictures of cells: everything is there, nothing lies on anything else, the bytes stay the same."""

import itertools
import random
import re
import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch

from rarts_mm.cells.drawing import draw_cells, save_cells
from rarts_mm.cells.genotype import GENOTYPES, Genotype
from rarts_mm.cells.layout import crossings, place
from tests.cells.test_genotype import random_genotype


@pytest.fixture(scope="module")
def genotypes() -> list[Genotype]:
    generator = random.Random(1)
    return [*GENOTYPES.values(), *(random_genotype(generator) for _ in range(3))]


def test_an_svg_names_every_operation_and_node(tmp_path):
    genotype = GENOTYPES["DARTS_V2"]
    save_cells(genotype, tmp_path / "cells.svg")
    text = "".join(ET.fromstring((tmp_path / "cells.svg").read_text()).itertext())
    for name in ("sep_conv_3x3", "skip_connect", "dil_conv_3x3", "max_pool_3x3"):
        pairs = genotype.normal + genotype.reduce
        assert text.count(name) == sum(operation == name for operation, _ in pairs)
    assert "Normal cell" in text
    assert "skip connections: 38%" in text
    # Two cells of four nodes; 1 and 2 are also in c_{k-1} and c_{k-2}.
    numbers = re.findall(r"^\s*(\d)\s*$", text, re.M)
    assert {n: numbers.count(n) for n in set(numbers)} == {"0": 2, "1": 4, "2": 4, "3": 2}


def test_the_same_genotype_gives_the_same_bytes(tmp_path):
    for suffix in (".svg", ".png"):
        for name in ("a", "b"):
            save_cells(GENOTYPES["DARTS_V1"], tmp_path / f"{name}{suffix}")
        first, second = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("a", "b"))
        assert first == second
    assert "date" not in (tmp_path / "a.svg").read_text().lower()
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert picture.shape[0] > 800
    assert np.ptp(picture[..., :3]) > 0.9
    save_cells(GENOTYPES["DARTS_V2"], tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_boxes_do_not_overlap_and_hold_their_text(genotypes):
    for genotype in genotypes:
        figure = draw_cells(genotype)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        (axes,) = figure.axes
        patches = [p for p in axes.patches if isinstance(p, FancyBboxPatch)]
        nodes = len(genotype.normal) // 2 + len(genotype.reduce) // 2
        assert len(patches) == 2 * 3 + nodes + 2 * nodes
        boxes = [patch.get_window_extent() for patch in patches]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), genotype
        renderer = canvas.get_renderer()
        whole = figure.bbox
        for text in axes.texts:
            extent = text.get_window_extent(renderer)
            assert whole.x0 <= extent.x0
            assert extent.x1 <= whole.x1
            around = [box for box in boxes if box.overlaps(extent)]
            # A title stands free; what is in a box is inside it.
            assert not around or any(
                box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 + 1
                for box in around
            ), text.get_text()


def test_a_layout_has_no_more_crossings_than_the_order_it_was_given():
    generator = random.Random(3)
    better = 0
    for _ in range(30):
        layers = [[(layer, i) for i in range(generator.randint(1, 5))] for layer in range(4)]
        links = [
            (a, b)
            for left, right in itertools.pairwise(layers)
            for b in right
            for a in generator.sample(left, min(2, len(left)))
        ]
        room = {item: generator.choice([0.4, 1.0]) for layer in layers for item in layer}
        layout = place(layers, links, room)
        before, after = crossings(layers, links), crossings(layout.layers, links)
        assert after <= before
        better += after < before
        assert layout.layers[0] == tuple(layers[0])
        for layer, given in zip(layout.layers, layers, strict=True):
            assert sorted(layer) == sorted(given)
            for a, b in itertools.pairwise(layer):
                assert layout.y[a] - layout.y[b] >= (room[a] + room[b]) / 2 - 2e-3
        assert place(layers, links, room) == layout
    assert better > 10


def test_crossings_are_counted():
    layers = [["a", "b"], ["c", "d"]]
    assert crossings(layers, [("a", "d"), ("b", "c")]) == 1
    assert crossings(layers, [("a", "c"), ("b", "d"), ("a", "d")]) == 0
    assert crossings(layers, [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]) == 1


def test_another_format_is_an_error_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"\.png or \.svg, not 'cells\.gif'"):
        save_cells(GENOTYPES["DARTS_V1"], tmp_path / "cells.gif")
    assert not list(tmp_path.iterdir())
