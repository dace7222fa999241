"""A search over the channels of a whole network, through the command lines."""

import json

import pytest

from tests.conftest import CONFIGS, run_tool
from tests.digits import write_digits

MORE = """
model = dict(space=dict(type="ChannelSpace"))
finetune = dict(train_cfg=dict(max_epochs=1, val_interval=1))
"""


def tool(*arguments: object) -> str:
    status, out, err = run_tool(*arguments)
    assert status == 0, err
    return out


@pytest.mark.slow
def test_list_search_prune_finetune_test_and_prune_again(tmp_path):
    config = write_digits(tmp_path, CONFIGS / "rarts_mobilenet-v2_digits.py", 32, 1, MORE)
    listed = tool("prune", config, "--list")
    assert "backbone.conv2.conv" in listed
    assert "head.fc" in listed
    tool("train", config, "--work-dir", tmp_path / "run")
    run = tmp_path / "run"
    said = tool("prune", config, run / "epoch_1.pth", "--flops", "0.5", "--round-to", "4")
    assert "FLOPs of the model remain" in said
    assert "in a step of training" in said
    pruned = run / "pruned_flops_50_round4"
    record = json.loads((pruned / "widths.json").read_text())
    plan = record["plan"]
    assert plan["counted"] <= plan["budget"]
    assert plan["counted"] == plan["reached"]
    tool("train", pruned / "pruned.py")
    tool("test", pruned / "pruned.py", pruned / "finetune")

    # What was pruned is a base like any other.
    again = tmp_path / "again.py"
    text = (
        f'_base_ = "{config}"\n'
        "from mmengine.config import Config\n"
        f'smaller = Config.fromfile("{pruned / "pruned.py"}").model.to_dict()\n'
        "model = dict(architecture=dict(_delete_=True, **smaller))\n"
    )
    again.write_text(text)
    tool("train", again, "--work-dir", tmp_path / "second")
    tool("prune", again, tmp_path / "second/epoch_1.pth", "--ratio", "0.3")
    smaller = json.loads((tmp_path / "second/pruned_30/widths.json").read_text())
    assert smaller["scores"] == record["scores"] - record["removed"]


@pytest.mark.slow
def test_criteria_that_look_at_the_training_loss(tmp_path):
    config = write_digits(tmp_path, CONFIGS / "rarts_mobilenet-v2_digits.py", 32, 1, MORE)
    tool("train", config, "--work-dir", tmp_path / "run")
    checkpoint = tmp_path / "run" / "epoch_1.pth"
    kept = {}
    for criterion in ("taylor", "fisher", "alpha"):
        images = ["--images", 40] if criterion != "alpha" else []
        tool(
            *("prune", config, checkpoint, "--flops", 0.5, "--criterion", criterion),
            *(*images, "--out", tmp_path / criterion),
        )
        record = json.loads((tmp_path / criterion / "widths.json").read_text())
        kept[criterion] = [unit["kept"] for unit in record["units"].values()]
    # The same again is the same: the images' order is seeded.
    tool(
        *("prune", config, checkpoint, "--flops", 0.5, "--criterion", "taylor"),
        *("--images", 40, "--out", tmp_path / "taylor"),
    )
    again = json.loads((tmp_path / "taylor" / "widths.json").read_text())
    assert [unit["kept"] for unit in again["units"].values()] == kept["taylor"]
    assert kept["taylor"] != kept["fisher"]
    assert kept["taylor"] != kept["alpha"]
    status, _, err = run_tool("prune", config, checkpoint, "--flops", 0.5, "--images", 40)
    assert status == 2
    assert "only --criterion taylor and fisher look at images" in err
