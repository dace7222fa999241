"""Sliced window attention: the fused way computes what the plain one does, and is taken in time."""

import copy
import math
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from mmengine.analysis import get_model_complexity_info
from mmpretrain.models.utils.attention import WindowMSA

from rarts_mm.analysis import count_flops
from rarts_mm.widths import slice_network

WINDOW, HEADS, WIDTH = (2, 3), 3, 48
TOKENS = WINDOW[0] * WINDOW[1]
WINDOWS = 4


@pytest.fixture
def fused(monkeypatch):
    """Counts calls of torch's fused attention."""
    spy = Mock(wraps=F.scaled_dot_product_attention)
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    return spy


@pytest.fixture
def threads():
    """Sets the number of threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def sliced(randomise, score):
    def build(head_dim=5, **options):
        network = randomise(WindowMSA(WIDTH, WINDOW, HEADS, **options))
        score(network)
        return slice_network(network, {"": range(head_dim)}).eval()

    return build


def windows(images=2) -> torch.Tensor:
    return torch.randn(images * WINDOWS, TOKENS, WIDTH, dtype=torch.float64)


def mask_of(kind: str | None) -> torch.Tensor | None:
    if kind is None:
        return None
    mask = -100.0 * torch.randint(0, 2, (WINDOWS, TOKENS, TOKENS))
    return mask.double() if kind == "double" else mask


def both_ways(layer, x, mask, threads) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        threads(2)
        plain = layer(x, mask)
        threads(1)
        return plain, layer(x, mask)


@pytest.mark.parametrize("head_dim", [1, 5, 8, 13, 16])
@pytest.mark.parametrize("kind", [None, "double", "float"])
def test_fused_and_plain_agree(sliced, fused, threads, head_dim, kind):
    layer, x, mask = sliced(head_dim, qk_scale=0.7), windows(), mask_of(kind)
    plain, found = both_ways(layer, x, mask, threads)
    assert fused.call_count == 1
    assert (plain - found).abs().max() <= 1e-12 * plain.abs().max()
    # The mask counts: without it the result is another.
    if mask is not None:
        assert (layer(x) - plain).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("training", "grad", "count", "expected"),
    [
        (False, False, 1, 1),
        (False, False, 2, 0),
        (False, True, 1, 0),
        (True, False, 1, 0),
        (True, True, 1, 0),
    ],
)
def test_fused_in_inference_on_one_thread_only(
    sliced, fused, threads, training, grad, count, expected
):
    layer = sliced().train(training)
    threads(count)
    with torch.set_grad_enabled(grad):
        layer(windows())
    assert fused.call_count == expected


def test_dropout_of_the_attention_acts_without_gradients(sliced, threads):
    """Monte Carlo dropout: training mode under no_grad."""
    layer = sliced(attn_drop=0.5).train()
    threads(1)
    x = windows()
    with torch.no_grad():
        assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("change", ["in place", "data", "loaded", "copy", "float"])
def test_a_changed_bias_table_counts_at_once(sliced, threads, change):
    """As when averaged weights are swapped in, which leaves no trace in version counters."""
    threads(1)
    layer, x = sliced(), windows()
    with torch.no_grad():
        before = layer(x)
        new = torch.randn_like(layer.relative_position_bias_table)
        table = layer.relative_position_bias_table
        if change == "in place":
            table.copy_(new)
        elif change == "data":
            table.data.copy_(new)
        elif change == "loaded":
            layer.load_state_dict({**layer.state_dict(), "relative_position_bias_table": new})
        elif change == "copy":
            layer = copy.deepcopy(layer)
            layer.relative_position_bias_table.data = new
        else:
            table.copy_(new)
            layer, x = layer.float(), x.float()
        threads(2)
        expected = layer(x)
        threads(1)
        found = layer(x)
    assert found.dtype == x.dtype
    assert (found - expected).abs().max() <= (1e-5 if change == "float" else 1e-12)
    assert (found - before).abs().max() > 1e-3


def test_state_dict_is_the_hosts(sliced, randomise):
    host = randomise(WindowMSA(WIDTH, WINDOW, HEADS))
    layer = sliced()
    with torch.no_grad():
        layer(windows())
    assert set(layer.state_dict()) == set(host.state_dict())


@pytest.mark.parametrize("kind", [None, "float"])
def test_mixed_precision(sliced, fused, threads, kind):
    layer, x, mask = sliced().float(), windows().float(), mask_of(kind)
    with torch.autocast("cpu", torch.bfloat16):
        plain, found = both_ways(layer, x, mask, threads)
    assert fused.call_count == 1
    assert plain.dtype == found.dtype == torch.bfloat16
    # Bfloat16 has 8 bits.
    assert (plain - found).abs().max() <= 0.05 * plain.abs().max()


@pytest.mark.parametrize("kind", [None, "double"])
def test_traces_and_exports_hold_the_plain_way(sliced, fused, threads, kind):
    """They run elsewhere, and with other numbers of images."""
    threads(1)
    layer = sliced()
    arguments = (windows(2),) if kind is None else (windows(2), mask_of(kind))
    with torch.no_grad():
        # Its check would run the layer itself besides.
        traced = torch.jit.trace(layer, arguments, check_trace=False)
        exported = torch.export.export(layer, arguments).module()
        assert fused.call_count == 0
        assert "scaled_dot_product" not in str(traced.graph)
        expected = layer(*arguments)
        assert fused.call_count == 1
        other = (windows(3), *arguments[1:])
        assert (traced(*other) - layer(*other)).abs().max() <= 1e-12
        assert (exported(*arguments) - expected).abs().max() <= 1e-12


@pytest.mark.parametrize("head_dim", [5, 8])
@pytest.mark.parametrize("count", [1, 2])
def test_multiply_adds_are_counted_either_way(
    detection_swin, score, fused, threads, head_dim, count
):
    """By this package, and by MMEngine's counter, which overlooks fused attention."""
    threads(count)
    network = detection_swin().float()
    alphas = score(network)
    kept = {
        name: range(head_dim if "attn" in name else len(alpha)) for name, alpha in alphas.items()
    }
    slice_network(network, kept)
    size = 36
    # Patches of 4; each stage pads its map to windows of 3.
    expected, embed, tokens = 9 * 9 * 16 * 3 * 16, 16, 9
    for stage, heads in enumerate((2, 4)):
        padded = (3 * math.ceil(tokens / 3)) ** 2
        inner = heads * head_dim
        attention = padded * (4 * embed * inner + 2 * 9 * inner)
        mlp = tokens**2 * 2 * embed * 4 * embed
        expected += 2 * (attention + mlp)
        if stage == 0:
            merged = math.ceil(tokens / 2)
            expected += merged**2 * 4 * embed * 2 * embed
            embed, tokens = 2 * embed, merged
    assert count_flops(network, (size, size)).total == expected
    assert bool(fused.call_count) == (count == 1)
    fused.reset_mock()
    with torch.no_grad():
        counted = get_model_complexity_info(
            network, (3, size, size), show_table=False, show_arch=False
        )
    assert fused.call_count == 0
    # It counts norms besides: 5 for an element.
    assert expected <= counted["flops"] <= 1.1 * expected
