"""A checkpoint of the plain architecture is pruned by what needs no scores."""

import json
import re
from pathlib import Path

import pytest
import torch

from tests.conftest import run_tool
from tests.tools.test_bad_input import files_under


@pytest.fixture
def plain(search_copy) -> tuple[Path, Path]:
    """The search's config, and the weights of one of its networks alone."""
    content = torch.load(search_copy / "epoch_2.pth", weights_only=False)
    state = {
        k.removeprefix("auxiliary."): v
        for k, v in content["state_dict"].items()
        if k.startswith("auxiliary.")
    }
    checkpoint = search_copy / "plain.pth"
    torch.save(dict(meta=content["meta"], state_dict=state), checkpoint)
    return next(search_copy.glob("*.py")), checkpoint


def test_the_weights_that_stay_are_the_checkpoints(plain):
    """Not multiplied by the scores that a search would start from; with the proof and all files."""
    options = ("--criterion", "magnitude", "--cfg-options", "model.space.init=0.5")
    status, text, err = run_tool("prune", *plain, "--ratio", "0.4", "--scratch", *options)
    assert status == 0, err
    assert "magnitude" in text
    out = plain[1].parent / "pruned_40_magnitude"
    assert {p.name for p in out.iterdir()} == {
        *("pruned.py", "pruned.pth", "scratch.py", "widths.json", "widths.png")
    }
    record = json.loads((out / "widths.json").read_text())
    assert record["source"]["keep"] == "plain"
    assert record["proof"]
    assert record["removed"] / record["scores"] == pytest.approx(0.4, abs=0.01)
    before = torch.load(plain[1], weights_only=False)["state_dict"]
    after = torch.load(out / "pruned.pth", weights_only=False)["state_dict"]
    assert set(after) == set(before)
    feed_forward = [name for name, unit in record["units"].items() if name.endswith(".ffn")]
    assert feed_forward
    for name in feed_forward:
        kept, size = (record["units"][name][key] for key in ("kept", "size"))
        assert len(kept) < size
        for layer, axis in (("layers.0.0.weight", 0), ("layers.1.weight", 1)):
            whole = before[f"{name}.{layer}"].index_select(axis, torch.tensor(kept))
            torch.testing.assert_close(after[f"{name}.{layer}"], whole, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ratio", "0.4"), "holds no scores .*Search first: .*--criterion magnitude"),
        (("--ratio", "0.4", "--criterion", "alpha-norm"), "holds no scores .*magnitude"),
        (("--ratio", "auto"), "holds no scores"),
        (("--ratio", "0.4", "--criterion", "random", "--keep", "mean"), "leave --keep out"),
    ],
)
def test_what_needs_scores_is_refused(plain, options, message):
    before = files_under(plain[0].parent)
    status, _, err = run_tool("prune", *plain, *options)
    assert status == 2
    assert re.search(message, err), err
    assert files_under(plain[0].parent) == before


@pytest.mark.parametrize("change", ["shape", "missing", "head", "other"])
def test_weights_of_another_model_are_refused(plain, change):
    config, checkpoint = plain
    content = torch.load(checkpoint, weights_only=False)
    state = content["state_dict"]
    if change == "shape":
        state["backbone.patch_embed.projection.weight"] = torch.zeros(2, 2)
    elif change == "missing":
        del state["neck.fpn_convs.0.conv.weight"]
    elif change == "head":
        key = next(k for k in state if k.endswith("bbox_head.0.fc_cls.weight"))
        state[key] = torch.zeros(9, state[key].shape[1])
    else:
        content["state_dict"] = {"conv1.weight": torch.zeros(4, 3, 3, 3)}
    torch.save(content, checkpoint)
    before = files_under(config.parent)
    options = ("--ratio", "0.4", "--criterion", "random")
    status, _, err = run_tool("prune", config, checkpoint, *options)
    assert status == 2, err
    assert f"checkpoint {checkpoint} is one of another model than" in err
    assert files_under(config.parent) == before
