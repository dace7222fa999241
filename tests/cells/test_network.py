"""The DARTS search network: its size, its operations, and that alpha weighs them."""

import pytest
import torch
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from rarts_mm.cells import OPERATIONS, CellSpace, DARTSSearchNetwork, build_operation
from rarts_mm.cells.network import MixedOperation
from rarts_mm.cells.retraining import DARTSNetwork
from rarts_mm.registry import MODELS
from rarts_mm.search import AUXILIARY, PRIMARY
from tests import tiny


def classifier(**backbone) -> dict:
    kind = {"type": "rarts_mm.DARTSSearchNetwork", **backbone}
    width = 16 * kind.get("channels", 16)
    return dict(
        type="mmpretrain.ImageClassifier",
        backbone=kind,
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=kind.pop("classes", 10),
            in_channels=width,
            loss=dict(type="CrossEntropyLoss"),
        ),
        _scope_="mmpretrain",
    )


def small(**settings):
    """A search model of three cells, float64, all parameters random."""
    init_default_scope("mmpretrain")
    kind = classifier(channels=4, layers=3, classes=tiny.CLASSES)
    return tiny.search_model(architecture=kind, space=dict(type="CellSpace"), **settings)


def test_parameters_and_flops_are_those_of_darts():
    init_default_scope("mmpretrain")
    model = MODELS.build(classifier())
    assert sum(p.numel() for p in model.parameters()) == 1_930_618
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 32, 32), mode="tensor")
    assert counter.get_total_flops() / 2 == pytest.approx(300.26e6, rel=1e-4)
    assert model.backbone(torch.randn(1, 3, 32, 32))[-1].shape == (1, 256, 8, 8)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_operations_keep_channels_and_divide_sizes(name, stride, size):
    torch.manual_seed(0)
    operation = build_operation(name, 6, stride)
    x = torch.randn(3, 6, *size)
    out = operation(x.clone())
    assert out.shape == (3, 6, *(-(-side // stride) for side in size))
    if name == "none":
        assert not out.any()
    elif (name, stride) == ("skip_connect", 1):
        assert torch.equal(out, x)
    else:
        assert out.std() > 0


def test_a_mean_pool_does_not_count_its_padding():
    out = build_operation("avg_pool_3x3", 2, 1)(torch.ones(1, 2, 4, 4))
    torch.testing.assert_close(out, torch.ones(1, 2, 4, 4))


def test_the_factorised_reduction_reads_every_pixel():
    """Even pixels by one convolution, odd ones by the other."""
    reduction = build_operation("skip_connect", 4, 2).double().eval()
    x = torch.rand(1, 4, 6, 6, dtype=torch.float64).requires_grad_()
    reduction(x).sum().backward()
    read = x.grad.abs().sum(1)[0] > 0
    grid = torch.arange(6)
    even, odd = grid % 2 == 0, grid % 2 == 1
    assert torch.equal(read, (even[:, None] & even) | (odd[:, None] & odd))


def test_unknown_operations_are_errors():
    with pytest.raises(ValueError, match=r"unknown operation 'conv'.*sep_conv_3x3"):
        build_operation("conv", 4, 1)


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_cells_of_other_sizes_and_what_is_derived_of_them(nodes):
    network = DARTSSearchNetwork(channels=4, layers=3, nodes=nodes)
    torch.manual_seed(0)
    space = CellSpace(init_std=1.0)
    alphas = space.insert(torch.nn.Sequential(network))
    edges = nodes * (nodes + 3) // 2
    assert {n: tuple(a.shape) for n, a in alphas.items()} == dict.fromkeys(alphas, (edges, 8))
    (out,) = network(torch.randn(2, 3, 8, 8))
    assert out.shape == (2, 16 * nodes, 2, 2)
    assert network.out_channels == 16 * nodes
    derived = DARTSNetwork(space.derive(alphas), channels=4, layers=3, auxiliary=False)
    assert derived(torch.randn(2, 3, 8, 8))[0].shape == out.shape


@pytest.mark.parametrize("setting", [dict(layers=2), dict(nodes=0)], ids=str)
def test_networks_that_are_too_small_are_errors(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be at least"):
        DARTSSearchNetwork(**setting)


def test_a_mixed_operation_is_the_weighted_sum():
    torch.manual_seed(1)
    mixed = MixedOperation(4, 2).double()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    weights = torch.randn(len(OPERATIONS), dtype=torch.float64).softmax(-1)
    wanted = sum(w * op(x) for w, op in zip(weights, mixed.operations, strict=True))
    torch.testing.assert_close(mixed(x, weights), wanted)


@pytest.mark.slow
def test_both_networks_read_one_alpha_and_give_it_gradients():
    model = small()
    alphas = model.alpha_parameters()
    assert {n: tuple(a.shape) for n, a in alphas.items()} == dict(normal=(14, 8), reduce=(14, 8))
    for name in (AUXILIARY, PRIMARY):
        network = getattr(model, name).backbone
        assert all(network.alphas[kind] is alpha for kind, alpha in alphas.items())
        images = torch.stack(tiny.batch()["inputs"]).double() / 255
        loss = network(images)[0].square().sum()
        gradients = torch.autograd.grad(loss, list(alphas.values()))
        assert all(g.abs().sum() > 0 for g in gradients)
        # By a difference quotient, for one entry of each kind.
        for alpha, gradient in zip(alphas.values(), gradients, strict=True):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    alpha[3, 4] += sign * 1e-7
                    values.append(network(images)[0].square().sum().item())
                    alpha[3, 4] -= sign * 1e-7
            assert (values[0] - values[1]) / 2e-7 == pytest.approx(gradient[3, 4].item(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("networks", "alternation"),
    [
        (2, dict(type="RARTS")),
        (1, dict(type="DARTS2")),
        (1, dict(type="DARTS2", derivative="exact")),
    ],
    ids=str,
)
def test_a_search_takes_steps_under_a_latency_penalty(networks, alternation):
    model = small(networks=networks)
    latencies = {kind: [0.01 * (i + 1) for i in range(8)] for kind in ("normal", "reduce")}
    wrapper = tiny.wrap(
        model,
        alternation=alternation,
        penalty=dict(type="LatencyPenalty", latencies=latencies, gamma=0.5),
    )
    before = [a.detach().clone() for a in model.alpha.parameters()]
    table = torch.tensor(latencies["normal"], dtype=torch.float64)
    wanted = 0.5 * sum((a.softmax(-1) @ table).sum().item() for a in before)
    log = model.train_step(tiny.batches(), wrapper)
    assert float(log["penalty"]) == pytest.approx(wanted)
    assert all((a != b).all() for a, b in zip(model.alpha.parameters(), before, strict=True))


def test_a_network_without_cells_is_an_error():
    with pytest.raises(ValueError, match="one DARTSSearchNetwork, found 0"):
        tiny.search_model(space=dict(type="CellSpace"))
