"""Networks that use layers or parameters twice: one unit for all uses, or left out with the reason."""

import json
import re

import pytest
import torch

from rarts_mm.apis import read_config
from rarts_mm.apis.configs import prepare_registries
from rarts_mm.registry import MODELS
from rarts_mm.widths import proof, scores
from rarts_mm.widths.sharing import Sharing
from tests import sharing_networks
from tests.conftest import run_tool
from tests.tools.test_budgets import write_search
from tests.tools.test_list_units import words


def backbone(kind: str) -> dict:
    return dict(type="SharingBackbone", kind=kind)


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", sharing_networks.LEFT_OUT)
def test_a_shared_layer_stays_one(kind, tmp_path):
    blocks, reason = sharing_networks.LEFT_OUT[kind]
    search = write_search(tmp_path, backbone(kind), 8)
    status, out, err = run_tool("prune", "--list", search[0])
    assert status == 0, err
    for block in blocks:
        assert f"left out: backbone.{block}.conv1 (BasicBlock): {reason}" in words(out)
    assert "left out: backbone (SharingBackbone): 1 convolution" in words(out)

    status, out, err = run_tool(
        "prune", *search, "--params", "0.9", "--of", "model", "--out", tmp_path / "pruned"
    )
    assert status == 0, err
    found = json.loads((tmp_path / "pruned" / "widths.json").read_text())
    scored = {name.split(".")[1] for name in found["units"]}
    names = {"first", "third"} if kind == "block" else {"first", "second", "third"}
    assert scored == names - set(blocks)
    assert 0 <= found["proof"]["error_training"] <= 1e-9
    # What is written has as many parameters as is claimed, each counted once.
    cfg = read_config(search[0])
    whole = MODELS.build(cfg.model.architecture)
    pruned = MODELS.build(read_config(tmp_path / "pruned" / "pruned.py").model)
    content = torch.load(tmp_path / "pruned" / "pruned.pth", weights_only=False)
    pruned.load_state_dict(content["state_dict"])
    assert parameters(pruned) == found["plan"]["counted"] == found["plan"]["reached"]
    assert 0.8 * parameters(whole) < parameters(pruned) <= 0.9 * parameters(whole)


@pytest.mark.parametrize(
    ("kind", "structure", "message"),
    [
        ("layer", True, "one parameter in the network with scores, but two in the sliced one"),
        ("weight", True, "one parameter in the network with scores, but two in the sliced one"),
        ("weight", False, "does not train as it does: .* gradients"),
        ("norm", False, "does not train as it does: .* gradients"),
    ],
)
def test_the_proof_sees_what_slicing_unties(kind, structure, message, tmp_path, monkeypatch):
    """Where nobody has left it out; by what is one parameter, and by a step of training."""
    monkeypatch.setattr(Sharing, "reason", lambda *args: None)
    monkeypatch.setattr(scores, "read_outside", lambda *args: {})
    if not structure:
        monkeypatch.setattr(proof, "check_ties", lambda *args: None)
    search = write_search(tmp_path, backbone(kind), 8)
    out = tmp_path / "pruned"
    status, _, err = run_tool("prune", *search, "--ratio", "0.3", "--out", out)
    assert status == 1
    assert re.search(message, err)
    assert not list(out.glob("pruned*"))


def test_a_sequential_that_runs_from_two_levels_above_is_left_out(tmp_path):
    search = write_search(tmp_path, dict(type="FarCalledChain"), 8)
    status, out, err = run_tool("prune", "--list", search[0])
    assert status == 0, err
    reason = "left out: backbone.inner.chain.0 (Sequential): its 0 is used outside of it, by FarCalledChain"
    assert reason in words(out)
    status, out, err = run_tool("prune", *search, "--ratio", "0.3", "--out", tmp_path / "pruned")
    assert status == 0, err


def test_a_plan_that_the_written_network_exceeds_is_refused(tmp_path, monkeypatch):
    """Where the costs of widths are wrong, whatever the reason."""
    from rarts_mm.analysis import width_costs

    right = width_costs.touched_parameters

    def wrong(network):
        unit = next(iter(next(iter(right(network).values()))))
        return dict(right(network), **{"backbone.stem.weight": frozenset([unit])})

    search = write_search(tmp_path, backbone("block"), 8)
    cfg = read_config(search[0])
    prepare_registries(cfg)
    monkeypatch.setattr(width_costs, "touched_parameters", wrong)
    out = tmp_path / "pruned"
    status, _, err = run_tool("prune", *search, "--params", "0.7", "--of", "model", "--out", out)
    assert status == 1
    budget = 0.7 * parameters(MODELS.build(cfg.model.architecture))
    (counted, asked) = re.search(
        r"has ([\d,]+) parameters, more than the budget of ([\d,]+) that --params 0.7", err
    ).groups()
    assert int(counted.replace(",", "")) > budget
    assert int(asked.replace(",", "")) == round(budget)
    assert not list(out.glob("pruned*"))
