"""What dimensions are ranked by: each criterion against its definition, on random networks."""

import copy

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN
from mmengine.registry import init_default_scope
from torch import nn

from rarts_mm.registry import MODELS
from rarts_mm.widths import CRITERIA, importance, rank_scores, scores_of
from rarts_mm.widths.budgets import WidthCost
from rarts_mm.widths.layers.scored_channels import input_scores
from tests.widths.comparing import scored


@pytest.fixture
def network(classifier, score):
    built = classifier()
    score(built)
    return built


def test_alpha_is_the_absolute_score(classifier, score):
    network = classifier()
    alphas = score(network)
    found = importance(network)
    assert list(found) == list(alphas)
    assert any((alpha < 0).any() for alpha in alphas.values())
    for name, alpha in alphas.items():
        assert torch.equal(found[name], alpha.detach().abs())


def norms(network, name):
    """L1 norms of the rows that write each dimension, one by one."""
    layer = network.get_submodule(name)
    if name.endswith("ffn"):
        rows = layer.layers[0][0].weight
        return torch.stack([row.abs().sum() for row in rows])
    weight, heads = layer.qkv.weight, layer.num_heads
    size = weight.shape[0] // 3 // heads
    # Rows are laid out [3, heads, size].
    rows = weight.view(3, heads, size, -1)
    return torch.stack([rows[:, :, i].abs().sum() for i in range(size)])


def test_magnitude_orders_each_layer_by_the_l1_norm_of_its_rows(network):
    found = importance(network, "magnitude")
    kinds = {"ffn": 0, "w_msa": 0}
    for name, ranks in found.items():
        kinds[name.rpartition(".")[2]] += 1
        expected = norms(network, name)
        assert torch.equal(ranks.argsort(), expected.argsort())
        size = len(ranks)
        torch.testing.assert_close(
            ranks.sort().values, (torch.arange(size, dtype=torch.float64) + 0.5) / size
        )
    assert kinds == {"ffn": 4, "w_msa": 4}


def test_magnitude_takes_the_same_share_of_every_layer(network):
    # However large the weights of one layer are.
    with torch.no_grad():
        network.backbone.stages[0].blocks[0].ffn.layers[0][0].weight.mul_(100)
    ranks = importance(network, "magnitude")
    for ratio in (0.25, 0.5):
        for name, kept in rank_scores(ranks, ratio).items():
            assert len(kept) == round((1 - ratio) * len(ranks[name]))


def test_magnitude_reads_neither_alpha_nor_biases(network):
    before = importance(network, "magnitude")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
        for alpha in importance(network):
            unit = network.get_submodule(alpha)
            (unit.qkv if hasattr(unit, "qkv") else unit.layers[0][0]).alpha.normal_()
    after = importance(network, "magnitude")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_geometric_median_lets_the_middle_go(network):
    block = network.backbone.stages[0].blocks[0]
    first = block.ffn.layers[0][0]
    with torch.no_grad():
        # One far away from all others, one among them.
        first.weight.mul_(0.1)
        first.weight[3] = 5.0
        first.weight[7] = first.weight[[i for i in range(len(first.weight)) if i != 3]].mean(0)
        block.attn.w_msa.qkv.weight.view(3, 2, -1, 16)[:, :, 1] = 9.0
    found = importance(network, "geometric-median")
    name = "backbone.stages.0.blocks.0"
    assert found[f"{name}.ffn"].argmax() == 3
    assert found[f"{name}.ffn"].argmin() == 7
    assert found[f"{name}.attn.w_msa"].argmax() == 1
    for places in found.values():
        wanted = (torch.arange(len(places), dtype=torch.float64) + 0.5) / len(places)
        torch.testing.assert_close(places.sort().values, wanted)


def test_alpha_norm_does_not_notice_a_factor_that_alpha_and_weights_trade(network):
    before = importance(network, "alpha-norm")
    alphas = scores_of(network)
    for name in before:
        norm = alphas[name].abs() * _rows(network, name)
        torch.testing.assert_close(
            before[name] / before[name].sum(), (norm / norm.sum()).double(), rtol=1e-5, atol=0
        )
    with torch.no_grad():
        for name, alpha in alphas.items():
            factors = 0.5 + torch.rand(alpha.shape)
            unit = network.get_submodule(name)
            writer = unit.qkv if hasattr(unit, "qkv") else unit.layers[0][0]
            alpha.mul_(factors)
            writer.weight.div_(factors.repeat(len(writer.weight) // len(factors))[:, None])
    after = importance(network, "alpha-norm")
    for name in before:
        ratio = after[name] / before[name]
        # The mean norm of the unit moves, for all of its dimensions alike.
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)


def _rows(network, name):
    """L2 norms of the weights that write each dimension."""
    unit = network.get_submodule(name)
    weight = (unit.qkv if hasattr(unit, "qkv") else unit.layers[0][0]).weight.detach()
    size = scores_of(network)[name].numel()
    return weight.view(-1, size, weight.shape[1]).square().sum((0, 2)).sqrt()


def test_alpha_norm_of_channels_is_that_of_what_reads_them():
    init_default_scope("mmpretrain")
    network = MODELS.build(dict(type="ResNet", depth=18, base_channels=4))
    scored(network)
    found = importance(network, "alpha-norm")["layer2.1.conv1"]
    reader = network.layer2[1].conv2
    norms = reader.weight.detach().double().square().sum((0, 2, 3)).sqrt()
    expected = input_scores(reader).detach().abs().double() * norms / norms.mean()
    torch.testing.assert_close(found, expected)


def test_alpha_per_cost_divides_by_the_given_cost(network):
    alphas = scores_of(network)
    sizes = {name: len(alpha) for name, alpha in alphas.items()}
    terms = {frozenset([name]): (i + 1.0) * size for i, (name, size) in enumerate(sizes.items())}
    first, *others = sizes
    # Nothing is infinitely cheap.
    del terms[frozenset([first])]
    cost = WidthCost(sizes, terms, "FLOPs")
    found = importance(network, "alpha-per-cost", cost=cost)
    for i, name in enumerate(others, start=1):
        torch.testing.assert_close(found[name], alphas[name].detach().abs().double() / (i + 1))
    torch.testing.assert_close(found[first], alphas[first].detach().abs().double() / 2)


def test_equal_magnitudes_lose_their_last_dimensions_first(network):
    layer = network.backbone.stages[0].blocks[0].ffn.layers[0][0]
    with torch.no_grad():
        layer.weight.fill_(0.5)
    ranks = importance(network, "magnitude")["backbone.stages.0.blocks.0.ffn"]
    assert torch.equal(ranks, ranks.sort(descending=True).values)


def test_random_depends_on_the_seed_and_the_units_alone(network):
    first = importance(network, "random", 5)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    torch.rand(7)
    again, different = importance(other, "random", 5), importance(network, "random", 6)
    values = torch.cat(list(first.values()))
    assert values.min() >= 0
    assert values.max() < 1
    assert values.unique().numel() == values.numel()
    for name in first:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], different[name])


def test_scores_that_never_moved_cannot_be_ranked(classifier, score):
    network = classifier()
    alphas = score(network)
    with torch.no_grad():
        for alpha in alphas.values():
            # Equal in size is equal to the ranking.
            alpha.copy_(alpha.sign())
    with pytest.raises(ValueError, match=r"scores are 1: .* --criterion magnitude") as error:
        importance(network)
    assert f"All {sum(a.numel() for a in alphas.values())} scores" in str(error.value)
    for other in ("magnitude", "random"):
        importance(network, other)
    with torch.no_grad():
        next(iter(alphas.values()))[0] = 1.5
    importance(network)


def test_weights_that_are_not_finite(network):
    with torch.no_grad():
        network.backbone.stages[1].blocks[1].ffn.layers[0][0].weight[3, 2] = float("nan")
    with pytest.raises(ValueError, match=r"stages\.1\.blocks\.1\.ffn are not finite"):
        importance(network, "magnitude")


def test_unknown_criterion_lists_the_known(network):
    with pytest.raises(
        ValueError,
        match=r"'magnitudes'; known are alpha, alpha-norm, alpha-per-cost, magnitude, geometric-median, random, taylor, fisher",
    ):
        importance(network, "magnitudes")


@pytest.mark.parametrize("seed", [-1, 0.5, True])
def test_bad_seed(network, seed):
    with pytest.raises(ValueError, match=f"at least 0, got {seed}"):
        importance(network, "random", seed)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_nothing_to_rank(criterion):
    with pytest.raises(ValueError, match="carries no scores"):
        importance(nn.Sequential(FFN(4, 8)), criterion)


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "penalty has switched everything off"), (1.0, "has not moved")]
)
def test_scores_that_are_all_alike_rank_nothing(classifier, score, value, words):
    network = classifier()
    for alpha in score(network).values():
        # Of both signs: magnitudes count.
        alpha.data = alpha.data.sign() * value
    with pytest.raises(ValueError, match=words):
        importance(network)
