"""PreResNet as a classifier: what Network Slimming counts, and the channels that the head reads."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from rarts_mm.analysis import compare_costs, count_flops
from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    ProofError,
    find_units,
    insert_scores,
    prove_slicing,
    pruned_config,
    rank_scores,
    slice_network,
)
from tests.widths.comparing import difference, randomised, scored, sliced_agrees

LAST = "backbone.bn"


def config(depth: int = 20, base_channels: int = 4, head: str = "LinearClsHead", **more) -> dict:
    kind = dict(type=head, num_classes=5, in_channels=16 * base_channels)
    if head == "StackedLinearClsHead":
        kind["mid_channels"] = [7]
    return dict(
        type="mmpretrain.ImageClassifier",
        backbone=dict(type="rarts_mm.PreResNet", depth=depth, base_channels=base_channels),
        neck=dict(type="GlobalAveragePooling"),
        head=kind,
    ) | dict(more)


def build(cfg: dict | None = None) -> nn.Module:
    init_default_scope("mmpretrain")
    return randomised(MODELS.build(copy.deepcopy(cfg or config()))).double().eval()


def images(*size: int) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2)).double()


def sizes(network: nn.Module, **chosen) -> int:
    return sum(unit.size for unit in find_units(network, **chosen)[0])


def test_the_classifier_has_the_12112_channels_of_network_slimming():
    network = build(config(depth=164, base_channels=16))
    assert sizes(network) == 11_856 + 256 == 12_112
    assert {unit.name: unit.size for unit in find_units(network)[0]}[LAST] == 256
    # Each place can be switched off.
    parts = {place: sizes(network, include=f"*.{place}") for place in ("bn", "bn1", "bn2", "bn3")}
    assert sum(parts.values()) == 12_112
    for place, size in parts.items():
        assert sizes(network, exclude=[f"*.{place}"]) == 12_112 - size
    assert sizes(network, exclude=[LAST, "*.bn1"]) == 4_032


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("exclude", [(), ("*.bn1", "*.bn2", "*.bn3")])
def test_masked_and_sliced_logits_agree(train, exclude):
    network = build()
    network.train(train)
    if exclude:
        names = [u.name for u in find_units(network, exclude=exclude)[0]]
        assert names == [LAST]
    sliced, kept = sliced_agrees(network, images(33, 47), include=LAST if exclude else "backbone")
    width = len(kept[LAST])
    assert width < 64
    assert sliced.head.fc.in_features == sliced.head.in_channels == width
    assert sliced.backbone.bn.num_features == sliced.backbone.out_channels == width
    # Kept statistics are those of the kept channels.
    assert torch.equal(
        sliced.backbone.bn.running_mean, network.backbone.bn.running_mean[kept[LAST]]
    )
    (features,) = sliced.backbone(images(16, 16))
    assert features.shape[1] == width


def test_the_config_rebuilds_it_and_takes_its_weights_only():
    cfg = config()
    network = build(cfg)
    kept = rank_scores(scored(network), 0.4)
    sliced = slice_network(copy.deepcopy(network), kept)
    pruned = pruned_config(cfg, kept)
    assert pruned["widths"][LAST] == len(kept[LAST])
    rebuilt = MODELS.build(copy.deepcopy(pruned)).double().eval()
    rebuilt.load_state_dict(sliced.state_dict(), strict=True)
    with torch.no_grad():
        assert difference(sliced(images(33, 47)), rebuilt(images(33, 47))) == 0
    for wrong in (build(cfg), build(pruned | dict(widths=pruned["widths"] | {LAST: 5}))):
        with pytest.raises(RuntimeError, match="different prunings"):
            rebuilt.load_state_dict(wrong.state_dict(), strict=False)
    # The last selection's own message, where nothing else differs.
    with pytest.raises(RuntimeError, match=r"backbone\.selected.*0 entries"):
        rebuilt.backbone._load_from_state_dict({}, "backbone.", {}, False, [], [], [])

    # A pruned classifier is searched and pruned like any other.
    twice, again = sliced_agrees(rebuilt, images(33, 47))
    assert len(again[LAST]) < len(kept[LAST])
    assert twice.backbone.selected.tolist() == torch.as_tensor(kept[LAST])[again[LAST]].tolist()


def test_the_proof_compares_logits():
    network = build().float()
    kept = rank_scores(scored(network), 0.4)
    sliced = slice_network(copy.deepcopy(network), kept)
    proof = prove_slicing(network, kept, sliced)
    assert (proof.compared, proof.outputs) == ("", 1)
    assert proof.error <= proof.tolerance
    wrong = copy.deepcopy(sliced)
    with torch.no_grad():
        wrong.head.fc.weight[0, 0] += 0.1
    with pytest.raises(ProofError):
        prove_slicing(network, kept, wrong)
    # Without the last unit the backbone alone is compared, as ever.
    network = build().float()
    kept = rank_scores(insert_scores(network, exclude=[LAST]), 0.4)
    assert prove_slicing(network, kept, slice_network(copy.deepcopy(network), kept)).compared == (
        "backbone"
    )


def test_one_score_costs_what_goes_and_the_pruned_part_has_its_layers():
    network = build()
    (unit,) = (u for u in find_units(network)[0] if u.name == LAST)
    # 5 columns of fc, scale and bias of the batch norm; fc runs once.
    assert (unit.parameters_per_score, unit.operations_per_score) == (5 + 2, 5)
    alphas = insert_scores(network, include=LAST)
    sliced = slice_network(copy.deepcopy(network), {LAST: range(63)}, alphas)
    table = compare_costs(network, sliced, (32, 32), [unit])
    assert table.whole.parameters_before - table.whole.parameters_after == 7
    assert table.pruned_part.parameters_before == 64 * 7 + 5
    assert table.pruned_part.flops_before - table.pruned_part.flops_after == 5

    # All places together: everything that multiplies but the stem and the shortcuts.
    whole = compare_costs(network, network, (32, 32), find_units(network)[0])
    flops = count_flops(network, (32, 32)).flops
    outside = sum(
        n for path, n in flops.items() if path == "backbone.conv1" or path.endswith("downsample")
    )
    assert whole.pruned_part.flops_before == whole.whole.flops_before - outside


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(head="StackedLinearClsHead"), "its head is a StackedLinearClsHead"),
        (dict(neck=dict(type="GeneralizedMeanPooling")), "its neck is a GeneralizedMeanPooling"),
        (dict(neck=None), "its neck is a NoneType"),
    ],
)
def test_before_another_head_the_last_channels_stay(changes, reason):
    units, left_out = find_units(build(config(**changes)))
    assert LAST not in {unit.name for unit in units}
    assert len(units) == 18
    (layer,) = left_out
    assert layer.name == LAST
    assert reason in layer.reason


def test_other_classifiers_have_no_such_unit():
    cfg = config(backbone=dict(type="ResNet_CIFAR", depth=18, base_channels=4, stem_channels=4))
    cfg["head"]["in_channels"] = 512
    units, left_out = find_units(build(cfg))
    assert LAST not in {u.name for u in units} | {layer.name for layer in left_out}
