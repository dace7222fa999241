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
