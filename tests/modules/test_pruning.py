"""``rarts_mm.prune``, ``groups``, ``save`` and ``load`` on networks of torchvision, timm and our own."""

import copy
import json

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import rarts_mm
from rarts_mm.widths.flow import FlowError
from rarts_mm.widths.flow.uneven import make_uneven
from rarts_mm.widths.layers.sliced_norms import SlicedGroupNorm
from tests.widths.flow import networks

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def count_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def count_flops(network: nn.Module, *inputs: torch.Tensor) -> int:
    # The counter overlooks the fused kernel of CPUs.
    kernel = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), kernel, FlopCounterMode(display=False) as counter:
        network.eval()(*inputs)
    return counter.get_total_flops() // 2


def network_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if name == "torchvision resnet18":
        return make_uneven(torchvision.models.resnet18()).eval(), IMAGES
    if name == "torchvision mobilenet":
        return make_uneven(torchvision.models.mobilenet_v3_small()).eval(), IMAGES
    if name == "timm vit":
        settings = dict(depth=2, embed_dim=48, num_heads=3, img_size=32, patch_size=8)
        return make_uneven(timm.create_model("vit_tiny_patch16_224", **settings)).eval(), IMAGES[
            :, :, :32, :32
        ]
    return make_uneven(networks.SharedHead()).eval(), IMAGES[:, :, :15, :13]


NAMES = ["torchvision resnet18", "torchvision mobilenet", "timm vit", "own"]


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    return network_of(request.param)


def test_a_head_of_zeros_hides_nothing():
    """torchvision's ViT starts with one: all outputs are zero, masked and cut, right or wrong."""
    network = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3))
    nn.init.zeros_(network[2].weight)
    nn.init.zeros_(network[2].bias)
    smaller = rarts_mm.prune(network, torch.randn(4, 5), 0.5)
    # Rounding of numbers that are not zero.
    assert 0 < smaller.error < 1e-12


def test_a_share_of_all_channels_goes(case):
    network, inputs = case
    before = copy.deepcopy(network.state_dict())
    smaller = rarts_mm.prune(network, inputs, ratio=0.4)
    total = sum(smaller.groups.sizes.values())
    assert sum(map(len, smaller.kept.values())) == total - round(0.4 * total)
    assert smaller.error < 1e-12
    # Said is what was counted.
    assert smaller.parameters == (count_parameters(network), count_parameters(smaller.model))
    counted = (count_flops(network, inputs), count_flops(smaller.model, inputs))
    assert smaller.flops[0] == counted[0]
    # A cut group norm gathers its groups' statistics by small products.
    norms = any(isinstance(m, SlicedGroupNorm) for m in smaller.model.modules())
    assert smaller.flops[1] == pytest.approx(counted[1], rel=2e-3 if norms else 0, abs=0)
    assert "channels removed" in str(smaller)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    "share",
    [
        pytest.param(0.8, marks=pytest.mark.slow),
        0.5,
        pytest.param(0.25, marks=pytest.mark.slow),
    ],
)
def test_budgets_hold_for_the_network_that_results(case, share):
    network, inputs = case
    smaller = rarts_mm.prune(network, inputs, params=share, criterion="random", seed=3)
    reached = count_parameters(smaller.model) / count_parameters(network)
    assert share - 0.06 < reached <= share
    smaller = rarts_mm.prune(network, inputs, flops=share * count_flops(network, inputs))
    reached = count_flops(smaller.model, inputs) / count_flops(network, inputs)
    assert share - 0.06 < reached <= share


def test_widths_of_layers_are_multiples():
    network, inputs = network_of("torchvision resnet18")
    smaller = rarts_mm.prune(network, inputs, flops=0.5, round_to=8)
    for name, module in smaller.model.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.out_channels % 8 == 0, name
    # Heads of 16 dimensions in queries, keys and values: each of them counts nine times.
    network, inputs = network_of("timm vit")
    smaller = rarts_mm.prune(network, inputs, params=0.7, round_to=6)
    assert smaller.model.blocks[0].attn.qkv.out_features % 6 == 0
    assert smaller.groups.groups["blocks.0.attn.qkv"].multiple == 9


@pytest.mark.parametrize("criterion", ["magnitude", "geometric-median"])
def test_the_least_important_channels_go(criterion):
    network = make_uneven(networks.Plain()).eval()
    with torch.no_grad():
        for weight in (network[1][0].weight, network[4].weight):
            # Channels 2 and 5 are nearly nothing, or nearly what the mean of all is.
            if criterion == "magnitude":
                rows = weight.movedim(0, 0)[[2, 5]] if weight.dim() == 4 else None
                if rows is not None:
                    weight[[2, 5]] *= 1e-3
                else:
                    weight.view(5, 10, 4)[:, [2, 5]] *= 1e-3
            elif weight.dim() == 4:
                weight[[2, 5]] = weight.mean(0)
            else:
                weight.view(5, 10, 4)[:, [2, 5]] = weight.view(5, 10, 4).mean(1, keepdim=True)
    smaller = rarts_mm.prune(
        network, IMAGES[:, :, :9, :9], ratio=0.2, criterion=criterion, include="1"
    )
    assert smaller.kept["1.0"].tolist() == [0, 1, 3, 4, 6, 7, 8, 9]


def test_include_and_exclude():
    network, inputs = network_of("torchvision resnet18")
    smaller = rarts_mm.prune(
        network, inputs, ratio=0.5, include=["layer2", "layer3"], exclude="*.0.*"
    )
    assert set(smaller.kept) == {"layer2.1.conv1", "layer3.1.conv1"}
    with pytest.raises(ValueError, match="layer9"):
        rarts_mm.prune(network, inputs, ratio=0.5, include="layer9")


@pytest.mark.parametrize("form", ["tuple", "dict", "forward"])
def test_networks_with_several_inputs(form):
    network = make_uneven(networks.TwoInputs()).eval()
    image, depth = IMAGES[:, :, :9, :9], IMAGES[:, :1, :9, :9]
    inputs, more = (image, depth), {}
    if form == "dict":
        inputs = dict(image=image, depth=depth)
    if form == "forward":
        more = dict(forward=lambda model, both: model(depth=both[1], image=both[0]))
    smaller = rarts_mm.prune(network, inputs, ratio=0.5, **more)
    assert smaller.model.head.in_channels == 5


def test_what_is_said_of_groups():
    text = str(rarts_mm.groups(make_uneven(networks.SpatialAttention()), IMAGES[:, :, :9, :9]))
    assert "0 groups" in text
    assert "stem.0: mean over channels" in text
    text = str(rarts_mm.groups(make_uneven(networks.Branching()), IMAGES[:, :, :9, :9]))
    assert "small.0: 8 channels of head, small.0, small.1" in text
    assert "Not run by the example: large.0.weight" in text


def test_saved_and_loaded(case, tmp_path):
    network, inputs = case
    smaller = rarts_mm.prune(network, inputs, ratio=0.4)
    smaller.save(tmp_path / "smaller")
    loaded = rarts_mm.load(copy.deepcopy(network), tmp_path / "smaller")
    assert loaded.state_dict().keys() == smaller.model.state_dict().keys()
    with torch.no_grad():
        wanted, found = smaller.model(inputs), loaded(inputs)
    wanted, found = ([x] if isinstance(x, torch.Tensor) else x for x in (wanted, found))
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_what_cannot_be_loaded(tmp_path):
    network, inputs = network_of("own")
    rarts_mm.save(rarts_mm.prune(network, inputs, ratio=0.4), tmp_path)
    with pytest.raises(ValueError, match=r"nothing.*widths\.json does not exist"):
        rarts_mm.load(networks.SharedHead(), tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"has no stem.0.weight, which was cut"):
        rarts_mm.load(networks.Plain(), tmp_path)
    other = networks.SharedHead()
    other.tower[0] = nn.Conv2d(9, 6, 3, padding=1, bias=False)
    with pytest.raises(ValueError, match=r"tower\.0\.weight has shape \(6, 9, 3, 3\)"):
        rarts_mm.load(other, tmp_path)
    record = tmp_path / "widths.json"
    content = json.loads(record.read_text())
    for damage in (
        dict(content, format=9),
        dict(content, groups={"a": {}}),
        {},
        dict(content, groups={"a": dict(size=3, kept="0-7", places=[], numbers=[], factors=[])}),
    ):
        record.write_text(json.dumps(damage))
        with pytest.raises(ValueError, match="no record of a cut network"):
            rarts_mm.load(networks.SharedHead(), tmp_path)
    record.write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        rarts_mm.load(networks.SharedHead(), tmp_path)


def test_a_smaller_network_is_cut_again():
    network, inputs = network_of("own")
    once = rarts_mm.prune(network, inputs, ratio=0.3)
    again = rarts_mm.prune(once.model, inputs, ratio=0.3)
    assert again.error < 1e-12
    assert again.parameters[1] < again.parameters[0] == once.parameters[1]
    # The norm still divides by what there was at first.
    assert again.model.tower[1].original == 4


def test_a_smaller_network_trains_and_keeps_its_mode():
    network, inputs = network_of("torchvision resnet18")
    network.train()
    smaller = rarts_mm.prune(network, inputs, ratio=0.4)
    assert network.training
    assert smaller.model.training
    smaller.model(inputs).sum().backward()
    assert all(p.grad is not None for p in smaller.model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give one of ratio"),
        (dict(ratio=0.4, flops=0.5), "Give one of ratio .* got ratio, flops"),
        (dict(ratio=0), "ratio must be a number between 0 and 1"),
        (dict(ratio=1.5), "ratio must be a number between 0 and 1"),
        (dict(params=-1), "params=-1 must be a share"),
        (dict(flops=float("nan")), "flops=nan must be a share"),
        (dict(params=1e12), "is no less than there is"),
        (dict(params=10), "The budget of 10 is below that"),
        (dict(ratio=0.4, criterion="magnitud"), "Did you mean .*magnitude"),
        (dict(ratio=0.4, round_to=64), "round_to=64 is larger than every unit"),
        (dict(ratio=0.4, round_to=0), "round_to must be a whole number"),
        (dict(ratio=0.99, min_keep=8), "the largest ratio is"),
    ],
)
def test_options_that_make_no_sense(options, message):
    network, inputs = network_of("own")
    with pytest.raises(ValueError, match=message):
        rarts_mm.prune(network, inputs, **options)


def test_nothing_to_cut_says_why():
    with pytest.raises(
        ValueError, match=r"There is nothing to cut in the SpatialAttention.\n(.*\n)*.*mean"
    ):
        rarts_mm.prune(networks.SpatialAttention(), IMAGES[:, :, :9, :9], ratio=0.4)
    with pytest.raises(FlowError, match=r"does not run on the example in stem\.0"):
        rarts_mm.prune(networks.SpatialAttention(), IMAGES[:, :2], ratio=0.4)
