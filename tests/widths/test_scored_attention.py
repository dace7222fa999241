"""Scored window attention: the library's, whose q, k and v are multiplied by alpha."""

import copy

import pytest
import torch
from mmdet.models.backbones.swin import WindowMSA as DetectionMSA
from mmpretrain.models.utils.attention import WindowMSA as PretrainMSA

from rarts_mm.widths import ScoredLinear, insert_scores, slice_network

HEADS, WIDTH, WINDOW = 3, 15, (2, 4)
TOKENS, WINDOWS = 8, 4


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[DetectionMSA, PretrainMSA], ids=["mmdet", "mmpretrain"])
def pair(request, randomise):
    """The library's own forward around a scored qkv, and ours; with the same parameters and scores."""
    host = randomise(
        request.param(WIDTH, HEADS, WINDOW)
        if request.param is DetectionMSA
        else request.param(WIDTH, WINDOW, HEADS)
    )
    scored = copy.deepcopy(host)
    (alpha,) = insert_scores(scored, include="").values()
    with torch.no_grad():
        # Of either sign, and one that is zero.
        alpha.copy_(torch.tensor([-1.3, 0.0, 0.4, 2.0, -0.2]))
    literal = host
    literal.qkv = ScoredLinear.wrap(literal.qkv, alpha.detach().clone(), 3 * HEADS)
    literal.qkv.alpha.requires_grad_()
    return literal, scored


def batch(images: int) -> torch.Tensor:
    return torch.randn(images * WINDOWS, TOKENS, WIDTH, dtype=torch.float64)


def mask() -> torch.Tensor:
    return -100.0 * torch.randint(0, 2, (WINDOWS, TOKENS, TOKENS)).double()


# In one window fewer numbers pass than the weight has, in sixteen more.
@pytest.mark.parametrize(("windows", "masked"), [(1, False), (16, False), (16, True)])
@pytest.mark.parametrize("threads", [1, 2])
def test_it_computes_the_librarys_function(pair, windows, threads, masked):
    literal, scored = (module.eval() for module in pair)
    torch.set_num_threads(threads)
    x, of_windows = batch(4)[:windows], mask() if masked else None
    with torch.no_grad():
        expected, found = literal(x, of_windows), scored(x, of_windows)
    assert (expected - found).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("frozen", [(), ("alpha",), ("weights",)], ids=str)
@pytest.mark.parametrize("images", [1, 4])
def test_gradients_are_those_of_the_literal_product(pair, images, frozen):
    """With respect to input, weights and alpha; whatever is frozen."""
    found = []
    torch.manual_seed(1)
    x, cotangent, of_windows = batch(images), batch(images), mask()
    for module in pair:
        module.train()
        alpha = module.qkv.alpha.requires_grad_("alpha" not in frozen)
        parameters = [p.requires_grad_("weights" not in frozen) for p in module.parameters()]
        x_in = x.clone().requires_grad_()
        wanted = [x_in, *(t for t in (alpha, *parameters) if t.requires_grad)]
        found.append(torch.autograd.grad(module(x_in, of_windows), wanted, cotangent))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_sliced_it_computes_what_it_computed_masked(pair):
    _, scored = pair
    kept = torch.tensor([0, 2, 4])
    x, of_windows = batch(2), mask()
    masked = copy.deepcopy(scored)
    with torch.no_grad():
        removed = [i for i in range(5) if i not in kept]
        masked.qkv.alpha[removed] = 0
        sliced = slice_network(scored, {"": kept})
        expected, found = masked(x, of_windows), sliced(x, of_windows)
    assert (expected - found).abs().max() <= 1e-12 * expected.abs().max()


def test_mixed_precision_stays_so(pair):
    _, scored = pair
    scored.float()
    with torch.autocast("cpu", torch.bfloat16):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                assert scored(batch(2).float()).dtype == torch.bfloat16


def test_hooks_of_qkv_are_called(pair):
    """Hosts of hooks, and wrapped forwards (activation checkpointing), see every pass."""
    _, scored = pair
    seen = []
    scored.qkv.register_forward_hook(lambda *args: seen.append(args[2].shape))
    scored(batch(1))
    assert seen == [(WINDOWS, TOKENS, 3 * WIDTH)]
