"""``tools/prune.py --max-drop``: the ratio that a validation metric allows, found by bisection."""

import json
import math

import pytest
import torch

from rarts_mm.apis.metrics import points_per_unit
from tests.conftest import CONFIGS, run_tool
from tests.digits import write_digits

MORE = """
model = dict(networks=1)
optim_wrapper = dict(alternation=dict(type="WeightsOnly"), penalty=None)
finetune = dict(train_cfg=dict(max_epochs=1, val_interval=1))
default_hooks = dict(checkpoint=dict(interval=4))
"""
SEVERAL = ["val_evaluator._delete_=True", "val_evaluator.type=SingleLabelMetric"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that reads digits, with scores that rank at random and change what it computes little."""
    folder = tmp_path_factory.mktemp("drop")
    config = write_digits(folder, CONFIGS / "sidt_swin_micro_digits.py", 32, 4, MORE)
    status, _, err = run_tool("train", config, "--work-dir", folder / "run")
    assert status == 0, err
    checkpoint = folder / "run/epoch_4.pth"
    content = torch.load(checkpoint, weights_only=False)
    torch.manual_seed(0)
    for key, alpha in content["state_dict"].items():
        if key.startswith("alpha."):
            alpha.copy_(1 + 0.01 * torch.rand(alpha.shape))
    torch.save(content, checkpoint)
    return config, checkpoint


@pytest.mark.slow
def test_the_largest_ratio_within_the_drop_is_pruned(trained, tmp_path):
    out = tmp_path / "out"
    status, text, err = run_tool("prune", *trained, "--max-drop", 10, "--out", out)
    assert status == 0, err
    table = json.loads((out / "max_drop.json").read_text())
    rows = {round(100 * row["ratio"]): row for row in table["rows"]}
    whole = rows.pop(0)["accuracy/top1"]
    # A network that has learned something.
    assert whole > 60
    for row in rows.values():
        assert row["drop"] == pytest.approx(whole - row["accuracy/top1"], abs=1e-6)
        assert row["kept to"] == ("yes" if row["drop"] <= 10 else "no")
    record = json.loads((out / "widths.json").read_text())
    _, found = record["source"]["target"]
    found = round(100 * float(found))
    # The bisection's own invariant.
    assert rows[found]["kept to"] == "yes"
    assert rows[found + 1]["kept to"] == "no"
    assert 6 <= len(rows) <= 7
    # Each evaluation is said.
    for percent, row in rows.items():
        assert f"{percent}% of the scores at zero: accuracy/top1 {row['accuracy/top1']:.4g}" in text
    assert f"{found} % of the scores removed: accuracy/top1" in text

    # The sliced network is the one that was evaluated.
    status, _, err = run_tool(
        "test", out / "pruned.py", out / "pruned.pth", "--work-dir", tmp_path / "test"
    )
    assert status == 0, err
    (file,) = (tmp_path / "test").glob("*/*.json")
    measured = json.loads(file.read_text())["accuracy/top1"]
    assert measured == pytest.approx(rows[found]["accuracy/top1"], abs=1e-4)
    # As by the ratio itself, and again into the same folder.
    status, _, err = run_tool("prune", *trained, "--ratio", found / 100, "--out", out)
    assert status == 0, err
    assert (out / "max_drop.md").read_text().count("\n|") > len(rows)


@pytest.mark.slow
def test_a_detectors_points_are_hundredths_of_its_average_precision(search_run, tmp_path):
    config = next(search_run.glob("*.py"))
    status, text, err = run_tool(
        *("prune", config, search_run / "epoch_2.pth", "--max-drop", 99),
        *("--metric", "coco/segm_mAP", "--out", tmp_path / "out"),
    )
    assert status == 0, err
    table = json.loads((tmp_path / "out/max_drop.json").read_text())
    assert {"ratio", "coco/segm_mAP", "drop", "kept to"} == table["rows"][0].keys()
    whole = table["rows"][0]["coco/segm_mAP"]
    for row in table["rows"]:
        assert row["drop"] == pytest.approx(100 * (whole - row["coco/segm_mAP"]), abs=1e-6)
    # Everything is allowed, but for the floors of the layers.
    assert table["rows"][-1]["ratio"] > 0.9
    assert "coco/segm_mAP" in text


def test_points():
    assert points_per_unit("coco/bbox_mAP_50") == points_per_unit("pascal_voc/mAP") == 100
    assert points_per_unit("accuracy/top1") == points_per_unit("coco_panoptic/PQ") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-drop", "0"], "--max-drop 0 must be a number of points above 0"),
        (["--max-drop", "-1"], "--max-drop -1 must be a number of points above 0"),
        (["--max-drop", "nan"], "--max-drop nan must be a number of points"),
        (["--max-drop", "inf"], "--max-drop inf must be a number of points"),
        (["--max-drop", "1", "--ratio", "0.4"], "leave --ratio, --params and --flops out"),
        (["--ratio", "0.4", "--metric", "accuracy/top1"], "only --max-drop looks at it"),
        (["--max-drop", "1", "--metric", "top1"], "the evaluator gives accuracy/top1"),
        # All there is has to stay.
        (["--max-drop", "1", "--min-keep", "1000"], "no share of the scores keeps to it"),
        (["--max-drop", "1", "--cfg-options", *SEVERAL], "which metric?"),
        (
            ["--max-drop", "1", "--metric", "mine", "--cfg-options", "val_evaluator=None"],
            "has no validation data",
        ),
    ],
)
def test_what_cannot_be_found_writes_nothing(trained, arguments, message, tmp_path):
    before = sorted(trained[1].parent.rglob("*"))
    status, _, err = run_tool("prune", *trained, "--out", tmp_path / "out", *arguments)
    assert status == 2, err
    assert message in err
    assert not (tmp_path / "out").exists()
    assert sorted(trained[1].parent.rglob("*")) == before


def test_a_metric_of_which_less_is_better(trained, tmp_path):
    """Said by the checkpoint hook's rule, as where the best checkpoint is chosen."""
    arguments = ["--max-drop", "5", "--metric", "mine/f1-score", "--out", tmp_path / "out"]
    options = [*SEVERAL, "val_evaluator.prefix=mine", "val_evaluator.items=[f1-score]"]
    status, _, err = run_tool("prune", *trained, *arguments, "--cfg-options", *options)
    assert status == 2
    assert "default_hooks.checkpoint.rule=greater" in err
    options.append("default_hooks.checkpoint.rule=less")
    status, _, err = run_tool("prune", *trained, *arguments, "--cfg-options", *options)
    assert status == 0, err
    rows = json.loads((tmp_path / "out/max_drop.json").read_text())["rows"]
    whole = rows[0]["mine/f1-score"]
    assert all(math.isclose(r["drop"], r["mine/f1-score"] - whole, abs_tol=1e-6) for r in rows)
