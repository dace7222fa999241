"""What pruning saves, as a share of the whole."""

import copy
import io
import json

import pytest
from rich.console import Console
from torch import nn

from rarts_mm.analysis import compare_costs, count_flops
from rarts_mm.widths import find_units


@pytest.fixture
def compare(prune_evenly):
    def run(model, size, ratio=0.5):
        after = copy.deepcopy(model)
        units = prune_evenly(after, ratio)
        return compare_costs(model, after, size, units)

    return run


def rows_of(table):
    return {row.name: row for row in table.rows}


@pytest.mark.slow
def test_full_size_detector(detector, compare):
    table = compare(detector, (800, 1280), ratio=0.25)
    rows = rows_of(table)
    assert list(rows) == [
        "whole model",
        "backbone",
        *(f"backbone.stages.{i}" for i in range(4)),
        "neck",
        "rpn_head",
        "roi_head",
        "pruned part",
    ]
    parts = [rows[name] for name in ("backbone", "neck", "rpn_head", "roi_head")]
    for column in ("parameters_before", "parameters_after", "flops_before", "flops_after"):
        assert sum(getattr(row, column) for row in parts) == getattr(table.whole, column)
    for name in ("neck", "rpn_head", "roi_head"):
        assert rows[name].flops_before == rows[name].flops_after
    part = table.pruned_part
    # An even ratio takes that share of every product in the part (thesis, Table 4.3).
    assert part.flops_after == 0.75 * part.flops_before
    saved = table.whole.flops_before - table.whole.flops_after
    assert saved == part.flops_before - part.flops_after
    assert part.share_before == part.flops_before / table.whole.flops_before
    assert part.share_after == part.flops_after / table.whole.flops_after
    assert part.share_before == pytest.approx(0.12, abs=0.01)
    assert table.is_small
    assert table.sentence().startswith("NOTE")
    assert "4.9% of the whole" in table.sentence()
    assert "1000 boxes (bbox) and 100 boxes (mask)" in table.markdown()


def test_linear_layers_of_the_blocks_are_88_of_745_giga(detector):
    flops = count_flops(detector, (800, 1280)).flops
    ends = ("w_msa.qkv", "w_msa.proj", "ffn")
    linear = sum(count for path, count in flops.items() if path.endswith(ends))
    assert linear == pytest.approx(88e9, abs=1e9)


def test_a_large_part_is_not_flagged(classifier, compare):
    table = compare(classifier, (224, 224))
    assert table.pruned_part.share_before > 0.9
    assert not table.is_small
    assert "NOTE" not in table.sentence()


def test_backbone_alone(swin, compare):
    table = compare(swin(), (48, 48))
    assert {"whole model", "stages.0", "stages.1", "pruned part"} <= set(rows_of(table))
    stage = rows_of(table)["stages.0"]
    assert stage.flops_before == count_flops(swin(), (48, 48)).flops["stages.0"]


def test_outputs(swin, compare):
    table = compare(swin(), (48, 48))
    data = json.loads(json.dumps(table.to_dict()))
    assert data["size"] == [48, 48]
    assert data["rows"][0]["name"] == "whole model"
    assert data["rows"][-1]["flops_after"] == table.pruned_part.flops_after
    assert data["sentence"] == table.sentence()
    text = table.markdown("Small Swin")
    assert text.startswith("**Small Swin**")
    assert table.sentence() in text
    screen = io.StringIO()
    table.print("Small Swin", console=Console(file=screen, width=80))
    shown = screen.getvalue()
    # Every row on one line at the width of a terminal.
    for row in table.rows:
        assert any(line.startswith(row.name) and "%" in line for line in shown.splitlines())


def test_errors(swin):
    model = swin()
    units, _ = find_units(model)
    with pytest.raises(ValueError, match="no units"):
        compare_costs(model, model, (48, 48), [])
    with pytest.raises(ValueError, match=r"has no unit 'stages.0.blocks.0.attn.w_msa'"):
        compare_costs(nn.Conv2d(3, 3, 1), model, (48, 48), units)
