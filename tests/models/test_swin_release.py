"""Files of the original Swin releases: names, channel order of patch merging, whole networks.

timm's Swin is an independent implementation with the original order and (up to the place of patch
merging in the tree) the original names: it says what a release's file computes.
"""

import pytest
import timm
import torch
from mmdet.models.backbones import SwinTransformer as DetectionSwin
from mmdet.models.layers import PatchMerging
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch import nn
from torch.nn import functional as F

from rarts_mm.models.swin_release import convert_on_load, convert_swin_release, is_swin_release

DEPTHS, HEADS, WINDOW, EMBED = (1, 2, 2, 1), (1, 2, 2, 4), 3, 12
SIZE = 192  # feature maps of 48, 24, 12, 6: whole windows, and more than one, in every stage


def randomize(module: nn.Module) -> nn.Module:
    """Random weights, biases and norms away from their identity; float64; evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    module.double()
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_(0.1, 0.3, generator=generator)
    module.eval()
    return module


def original_merging(x: torch.Tensor, norm_weight, norm_bias, reduction) -> torch.Tensor:
    """Patch merging as the original code defines it, (B, H, W, C) to (B, H/2 * W/2, 2C)."""
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    patches = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    merged = torch.cat(patches, -1).flatten(1, 2)
    return F.linear(F.layer_norm(merged, merged.shape[-1:], norm_weight, norm_bias), reduction)


def original_index(window: int) -> torch.Tensor:
    """Row of the bias table for each pair of positions of a window, from its definition."""
    cells = [(row, column) for row in range(window) for column in range(window)]
    return torch.tensor(
        [
            [
                (a[0] - b[0] + window - 1) * (2 * window - 1) + a[1] - b[1] + window - 1
                for b in cells
            ]
            for a in cells
        ]
    )


def timm_swin(classes: int) -> nn.Module:
    return randomize(
        timm.models.swin_transformer.SwinTransformer(
            img_size=SIZE,
            embed_dim=EMBED,
            depths=DEPTHS,
            num_heads=HEADS,
            window_size=WINDOW,
            num_classes=classes,
        )
    )


def released_backbone(model: nn.Module) -> dict[str, torch.Tensor]:
    """timm's state dict under the original names: patch merging ends a stage, buffers are kept."""
    state = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        state[".".join(parts).replace("head.fc.", "head.")] = value
    for key in [key for key in state if key.endswith("bias_table")]:
        state[key.replace("bias_table", "index")] = original_index(WINDOW)
    state["layers.1.blocks.1.attn_mask"] = torch.zeros(64, WINDOW**2, WINDOW**2)
    return state


@pytest.fixture(scope="module")
def released_classifier():
    model = timm_swin(classes=7)
    return model, released_backbone(model)


@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_one_merging_layer_computes_what_the_original_defines(released_classifier, size):
    _, state = released_classifier
    generator = torch.Generator().manual_seed(1)
    norm_weight, norm_bias = torch.randn(2, 4 * EMBED, generator=generator, dtype=torch.float64)
    reduction = torch.randn(2 * EMBED, 4 * EMBED, generator=generator, dtype=torch.float64)
    x = torch.randn(2, *size, EMBED, generator=generator, dtype=torch.float64)
    released = {
        **state,
        "layers.0.downsample.norm.weight": norm_weight,
        "layers.0.downsample.norm.bias": norm_bias,
        "layers.0.downsample.reduction.weight": reduction,
    }
    layer = PatchMerging(EMBED, 2 * EMBED).double()
    prefix = "backbone.stages.0.downsample."
    converted = convert_swin_release(released)
    layer.load_state_dict(
        {key.removeprefix(prefix): converted[key] for key in converted if key.startswith(prefix)}
    )
    merged, merged_size = layer(x.flatten(1, 2), size)
    assert merged_size == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    torch.testing.assert_close(
        merged, original_merging(x, norm_weight, norm_bias, reduction), rtol=0, atol=1e-12
    )


def test_a_released_detectors_backbone_gives_the_same_features():
    original = timm_swin(classes=0)
    norms = [randomize(nn.LayerNorm(EMBED * 2**i)) for i in range(4)]
    state = {
        f"backbone.{key}": value
        for key, value in released_backbone(original).items()
        if not key.startswith("norm.")
    }
    for i, norm in enumerate(norms):
        state[f"backbone.norm{i}.weight"] = norm.weight
        state[f"backbone.norm{i}.bias"] = norm.bias
    state["rpn_head.rpn_conv.weight"] = torch.ones(1)
    backbone = DetectionSwin(
        embed_dims=EMBED, depths=DEPTHS, num_heads=HEADS, window_size=WINDOW
    ).double()

    converted = convert_swin_release(state)
    assert converted.pop("rpn_head.rpn_conv.weight") is state["rpn_head.rpn_conv.weight"]
    backbone.load_state_dict(
        {key.removeprefix("backbone."): value for key, value in converted.items()}, strict=True
    )
    backbone.eval()

    image = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64)
    with torch.no_grad():
        expected, x = [], original.patch_embed(image)
        for layer, norm in zip(original.layers, norms, strict=True):
            x = layer(x)
            expected.append(norm(x).permute(0, 3, 1, 2))
        features = backbone(image)
    for feature, reference in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, reference, rtol=1e-10, atol=1e-10)


def test_a_released_classifier_gives_the_same_logits(released_classifier):
    original, state = released_classifier
    classifier = CLASSIFIERS.build(
        dict(
            type="mmpretrain.ImageClassifier",
            backbone=dict(
                type="SwinTransformer",
                arch=dict(embed_dims=EMBED, depths=list(DEPTHS), num_heads=list(HEADS)),
                img_size=SIZE,
                window_size=WINDOW,
            ),
            neck=dict(type="GlobalAveragePooling"),
            head=dict(type="LinearClsHead", num_classes=7, in_channels=8 * EMBED),
            _scope_="mmpretrain",
        )
    ).double()
    classifier.load_state_dict(convert_swin_release(state), strict=True)
    classifier.eval()
    image = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    with torch.no_grad():
        logits = classifier.head(classifier.extract_feat(image))
        torch.testing.assert_close(logits, original(image), rtol=1e-10, atol=1e-10)


def test_position_embedding_of_a_detector_becomes_a_sequence(released_classifier):
    state = {f"backbone.{key}": value for key, value in released_classifier[1].items()}
    state["backbone.absolute_pos_embed"] = torch.arange(2.0 * 3 * 4).reshape(1, 2, 3, 4)
    converted = convert_swin_release(state)["backbone.absolute_pos_embed"]
    assert converted.shape == (1, 12, 2)
    assert converted[0, 5].tolist() == [5.0, 17.0]  # row 1, column 1


def test_only_a_release_is_converted(released_classifier):
    original, state = released_classifier
    before = {key: value.clone() for key, value in state.items()}
    converted = convert_on_load(state)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in before)

    assert is_swin_release(state)
    assert convert_on_load(converted) is converted, "converted once is converted"
    assert not is_swin_release(original.state_dict()), "timm's own names"
    assert convert_on_load({}) == {}
    with pytest.raises(ValueError, match=r"not of an original Swin release.*backbone\."):
        convert_swin_release(converted)


def test_a_network_with_the_original_names_gets_its_tensors_unchanged(released_classifier):
    class Original(nn.Module):
        """A copy of the original code, as far as names go."""

        def state_dict(self, *args, **kwargs):
            return released_classifier[1]

    state = released_classifier[1]
    assert convert_on_load(state, Original()) is state
    assert convert_on_load(state, nn.Linear(1, 1)) is not state
