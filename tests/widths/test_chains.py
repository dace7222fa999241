"""Convolutions one after the other: VGG, and torch's Sequential."""

import copy

import pytest
import timm
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import init_default_scope
from torch import nn

from rarts_mm.registry import MODELS
from rarts_mm.widths import (
    find_units,
    insert_scores,
    prove_slicing,
    pruned_config,
    rank_scores,
    slice_network,
)
from rarts_mm.widths.scores import scored_sites
from tests.widths.comparing import difference, randomised, scored, sliced_agrees

BN = dict(type="BN")


def images(*size: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(2)).double()


def vgg(**settings) -> nn.Module:
    init_default_scope("mmpretrain")
    backbone = randomised(MODELS.build(dict(type="mmpretrain.VGG", depth=11) | settings))
    backbone.double()
    # VGG's own train() returns None, and so does its eval().
    backbone.eval()
    return backbone


def features(*indices: int) -> list[str]:
    return [f"features.{i}" for i in indices]


# Depth 11 has convolutions at 0, 2, 4, 5, 7, 8, 10, 11 and poolings behind 0, 2, 5, 8 and 11.
VGGS = {
    "plain": (dict(), features(0, 2, 4, 5, 7, 8, 10)),
    "norms": (dict(norm_cfg=BN), features(0, 2, 4, 5, 7, 8, 10)),
    "outputs": (dict(norm_cfg=BN, out_indices=(1, 3, 4)), features(0, 4, 5, 7, 10)),
    "three stages": (
        dict(
            num_stages=3,
            dilations=(1, 1, 2),
            out_indices=(2,),
            with_last_pool=False,
            ceil_mode=True,
        ),
        features(0, 2, 4),
    ),
    "leaky": (dict(norm_cfg=BN, act_cfg=dict(type="LeakyReLU")), features(0, 2, 4, 5, 7, 8, 10)),
}


@pytest.mark.parametrize("name", VGGS)
@pytest.mark.parametrize("train", [False, True])
def test_vgg_masked_and_sliced_agree(name, train):
    settings, names = VGGS[name]
    backbone = vgg(**settings)
    assert [unit.name for unit in find_units(backbone)[0]] == names
    backbone.train(train)
    sliced_agrees(backbone, images(45, 67))


def test_vgg_with_its_classifier():
    """The classifier's first layer reads each channel at 49 places."""
    with torch.device("meta"):
        whole = vgg_classifier()
    units = {unit.name: unit for unit in find_units(whole)[0]}
    assert list(units) == [*features(0, 2, 4, 5, 7, 8, 10, 11), "classifier.0", "classifier.3"]
    assert units["features.11"].parameters_per_score == 512 * 9 + 1 + 49 * 4096
    assert units["classifier.0"].parameters_per_score == 512 * 49 + 1 + 4096
    # An output behind the last stage as well: its channels are seen outside.
    with torch.device("meta"):
        seen = vgg_classifier(out_indices=(4, 5))
    assert "features.11" not in {unit.name for unit in find_units(seen)[0]}
    assert "classifier.0" in {unit.name for unit in find_units(seen)[0]}

    # The same at a size that is quick: other widths in the same places.
    small = vgg_classifier()
    for i, size in ((0, 512 * 49), (3, 30)):
        small.classifier[i] = nn.Linear(size, 30)
    small.classifier[6] = nn.Linear(30, 5)
    randomised(small).double()
    small.eval()
    include = ["features.11", "classifier.0", "classifier.3"]
    sliced, kept = sliced_agrees(small, images(224, 224)[:1], include=include)
    assert sliced.classifier[0].in_features == 49 * len(kept["features.11"])


def vgg_classifier(**settings) -> nn.Module:
    init_default_scope("mmpretrain")
    return MODELS.build(dict(type="mmpretrain.VGG", depth=11, num_classes=5) | settings)


def test_vgg_from_its_pruned_config_keeps_frozen_stages():
    cfg = dict(type="mmpretrain.VGG", depth=11, norm_cfg=BN, frozen_stages=2, norm_eval=True)
    backbone = vgg(**cfg)
    backbone.train()
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert any(n.startswith("features.2") for n in frozen)
    kept = rank_scores(scored(backbone), 0.4)
    sliced = slice_network(copy.deepcopy(backbone), kept)
    rebuilt = MODELS.build(pruned_config(cfg, kept)).double()
    rebuilt.load_state_dict(sliced.state_dict(), strict=True)
    for network in (sliced, rebuilt):
        network.train()
        assert {n for n, p in network.named_parameters() if not p.requires_grad} == frozen
        assert not any(m.training for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        assert difference(sliced(images(45, 67)), rebuilt(images(45, 67))) == 0


def conv(inputs: int, outputs: int, size: int = 3, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **kwargs)


def chain() -> nn.Sequential:
    """All that may stand between convolutions, with strides, dilation and a Sequential inside."""
    return nn.Sequential(
        conv(3, 8, stride=2),
        nn.BatchNorm2d(8),
        nn.SiLU(inplace=True),
        nn.Sequential(conv(8, 10, 1, bias=False), nn.BatchNorm2d(10), nn.ELU()),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(10, 10, 3, padding=2, dilation=2, groups=10),
        nn.BatchNorm2d(10),
        nn.Sigmoid(),
        ConvModule(10, 12, 3, norm_cfg=BN, padding=1, padding_mode="reflect"),
        nn.Dropout2d(0.0),
        nn.Upsample(scale_factor=2),
        nn.ConvTranspose2d(12, 6, 3, 2),
        nn.ReLU6(),
        nn.AvgPool2d(2),
        conv(6, 4),
        nn.ReLU(),
    )


class Calling(nn.Module):
    """Runs its chain as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.features = chain()
        for layer in self.features:
            layer.requires_grad_()

    def train(self, mode: bool = True) -> nn.Module:
        self.features.train(mode)
        return super().train(mode)

    def forward(self, x):
        return self.features(x).mean((2, 3))


class Iterating(Calling):
    """Runs the layers one by one, and keeps what it sees on the way."""

    def forward(self, x):
        seen = []
        for layer in self.features:
            x = layer(x)
            seen.append(x)
        return seen


class Handing(Calling):
    """Lets somebody else run the layers."""

    def forward(self, x):
        return torch.utils.checkpoint.checkpoint_sequential(self.features, 2, x)


class Nameless(nn.Module):
    """Runs a chain that it has in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.chains = nn.ModuleList([chain()])

    def forward(self, x):
        return self.chains[0](x)


UNITS = ["0", "3.0", "8", "11"]


@pytest.mark.parametrize("kind", [chain, Calling])
@pytest.mark.parametrize("train", [False, True])
def test_sequential_masked_and_sliced_agree(kind, train):
    network = randomised(kind()).double()
    network.train(train)
    prefix = "features." if kind is Calling else ""
    units, left_out = find_units(network)
    assert [unit.name for unit in units] == [prefix + name for name in UNITS]
    assert not left_out
    sliced, kept = sliced_agrees(network, images(37, 51))
    layers = sliced.features if kind is Calling else sliced
    assert layers[5].groups == layers[5].in_channels == len(kept[f"{prefix}3.0"])
    # And what the pruned one is pruned to.
    sliced_agrees(sliced, images(37, 51))


def test_the_proof_of_a_sequential():
    network = randomised(Calling())
    kept = rank_scores(scored(network), 0.4)
    assert prove_slicing(network, kept, slice_network(copy.deepcopy(network), kept)).error <= 1e-10


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Iterating, "Iterating, in which it stands, may run its layers one by one"),
        (Handing, "Handing, in which it stands, may run its layers one by one"),
        (Nameless, "it stands in a ModuleList"),
    ],
)
def test_a_chain_that_may_run_layer_by_layer_is_left_out(kind, reason):
    units, left_out = find_units(kind())
    assert not units
    assert len(left_out) == len(UNITS)
    assert all(reason in layer.reason for layer in left_out)


def test_what_breaks_a_chain():
    class Own(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + 1

    layers = [conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, 4)]
    assert [u.name for u in find_units(nn.Sequential(*layers))[0]] == ["0", "2"]
    shared = nn.Sequential(layers[0], layers[2], layers[2], layers[4])
    assert find_units(shared) == ([], [])

    for between, names in (
        (nn.GroupNorm(2, 8), {"0": "mixes the channels"}),
        (nn.Softmax(1), {"0": "does not act on each channel by itself"}),
        (nn.PReLU(8), {"0": "does not act on each channel by itself"}),
        (timm.layers.BatchNormAct2d(8), {"0": "computes more than a BatchNorm2d"}),
        (nn.Conv2d(8, 8, 1, groups=2), {"0": "has 2 groups", "1": "has 2 groups"}),
        # A layer of any other kind ends the chain without a word.
        (Own(conv(8, 8)), {}),
        (nn.PixelShuffle(1), {}),
    ):
        _, left_out = find_units(nn.Sequential(layers[0], between, layers[4]))
        assert [layer.name for layer in left_out] == list(names)
        for layer in left_out:
            assert names[layer.name] in layer.reason

    _, left_out = find_units(Own(*layers))
    assert len(left_out) == 2
    assert "forward of its own" in left_out[0].reason


def test_what_another_adapter_has_stays_its_own():
    backbone = vgg(norm_cfg=BN)
    insert_scores(backbone)
    assert {type(site.host) for site in scored_sites(backbone)} == {type(backbone)}
    init_default_scope("mmdet")
    head = MODELS.build(dict(type="RPNHead", in_channels=4, feat_channels=6, num_convs=3))
    assert [u.name for u in find_units(head)[0]] == [f"rpn_conv.{i}" for i in range(3)]


def test_deep_stems_are_chains():
    init_default_scope("mmpretrain")
    resnet = MODELS.build(dict(type="ResNetV1d", depth=50, base_channels=8, stem_channels=8))
    units = [u for u in find_units(resnet)[0] if u.name.startswith("stem")]
    assert [(u.name, u.size) for u in units] == [("stem.0", 4), ("stem.1", 4)]
    assert set(insert_scores(resnet, include="stem")) == {"stem.0", "stem.1"}

    network = timm.create_model("resnet26d", num_classes=3)
    units, _ = find_units(network)
    assert [u.name for u in units] == ["conv1.0", "conv1.3"]
    sliced_agrees(randomised(network).double().eval(), images(33, 47))
