"""The multi-head attention that is cut computes what torch's computes, and what is left of it is exact."""

import itertools

import pytest
import torch
from torch import nn

import rarts_mm
from rarts_mm.widths.flow.uneven import make_uneven
from rarts_mm.widths.layers.sliced_multihead import free_multihead

BATCH, QUERIES, KEYS, WIDTH, HEADS = 3, 5, 7, 12, 2


def attention(**settings):
    torch.manual_seed(0)
    return make_uneven(nn.MultiheadAttention(WIDTH, HEADS, **settings).double())


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def masks(kind):
    padding = torch.zeros(BATCH, KEYS, dtype=torch.bool)
    padding[1, -2:] = True
    return {
        "none": {},
        "padding": dict(key_padding_mask=padding),
        "added padding": dict(key_padding_mask=drawn(BATCH, KEYS)),
        "one for all": dict(attn_mask=drawn(QUERIES, KEYS)),
        "each head's": dict(attn_mask=drawn(BATCH * HEADS, QUERIES, KEYS)),
        "both": dict(attn_mask=torch.ones(QUERIES, KEYS).triu(3).bool(), key_padding_mask=padding),
    }[kind]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "kind", ["none", "padding", "added padding", "one for all", "each head's", "both"]
)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_torchs(batch_first, kind, bias):
    host = attention(batch_first=batch_first, bias=bias).eval()
    free = free_multihead(host)
    assert free.state_dict().keys() == host.state_dict().keys()
    inputs = [drawn(BATCH, n, WIDTH) for n in (QUERIES, KEYS, KEYS)]
    if not batch_first:
        inputs = [each.transpose(0, 1) for each in inputs]
    for weights, mean in itertools.product((True, False), (True, False)):
        more = dict(masks(kind), need_weights=weights, average_attn_weights=mean)
        wanted, found = host(*inputs, **more), free(*inputs, **more)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_one_sequence_without_a_batch():
    host = attention().eval()
    inputs = [drawn(n, WIDTH) for n in (QUERIES, KEYS, KEYS)]
    torch.testing.assert_close(free_multihead(host)(*inputs), host(*inputs))


def test_what_has_other_rows_or_widths_stays():
    for settings in (dict(kdim=5, vdim=4), dict(add_bias_kv=True), dict(add_zero_attn=True)):
        assert free_multihead(attention(**settings)) is None


class Coder(nn.Module):
    """An encoder and decoder between layers of other widths."""

    def __init__(self, **settings: bool) -> None:
        super().__init__()
        self.sources, self.targets = nn.Linear(6, 12), nn.Linear(5, 12)
        self.coder = nn.Transformer(12, 3, 1, 1, 20, batch_first=True, **settings)
        self.last = nn.Linear(12, 4)

    def forward(self, x, y):
        return self.last(self.coder(self.sources(x), self.targets(y)))


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformers_of_torch_are_cut_whole_saved_and_loaded(norm_first, tmp_path):
    torch.manual_seed(0)
    network = make_uneven(Coder(norm_first=norm_first)).double().eval()
    inputs = drawn(2, 7, 6), drawn(2, 4, 5)
    found = rarts_mm.groups(network, inputs)
    assert found.sizes["coder.encoder.layers.0.self_attn"] == 4
    assert found.sizes["coder.decoder.layers.0.multihead_attn"] == 4
    assert {n for n, p in network.named_parameters()} - {
        key for group in found.groups.values() for key in group.parameters
    } == {"last.bias"}
    smaller = rarts_mm.prune(network, inputs, 0.5, scope="layer")
    assert smaller.error < 1e-12
    assert smaller.model.coder.encoder.layers[0].self_attn.in_proj_weight.shape == (18, 6)
    smaller.save(tmp_path / "smaller")
    again = rarts_mm.load(Coder(norm_first=norm_first).double().eval(), tmp_path / "smaller")
    with torch.no_grad():
        torch.testing.assert_close(again(*inputs), smaller.model(*inputs))
        # Without gradients torch would compute a whole layer at once, with the widths that it knows.
        whole = smaller.model.coder.encoder
        torch.testing.assert_close(whole(drawn(2, 3, 6)).shape, torch.Size([2, 3, 6]))
