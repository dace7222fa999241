"""Activations that are computed again leave the search what it is."""

import copy

import pytest
import torch

from rarts_mm.models import checkpoint_activations
from rarts_mm.search import AUXILIARY, PRIMARY
from rarts_mm.widths import scores_of
from tests import tiny

STAGES = ["backbone.stages.0", "backbone.stages.1"]


def trained(steps=2, seed=0, alternation=None, **settings):
    networks = 1 if alternation else 2
    model = tiny.search_model(**{"networks": networks, **settings})
    uses = dict(alternation=alternation) if alternation else dict(lam=0.7, beta=0.3)
    wrapper = tiny.wrap(model, **uses)
    torch.manual_seed(seed)
    for i in range(steps):
        model.train_step(tiny.batches(i), wrapper)
    return model


@pytest.mark.parametrize("way", ["names", "with_cp"])
def test_the_search_is_the_same_with_and_without(way):
    plain = trained()
    if way == "names":
        model = trained(activation_checkpointing=STAGES)
    else:
        kind = tiny.architecture(backbone=dict(with_cp=True))
        model = trained(architecture=kind)
        blocks = [m for m in model.modules() if getattr(m, "with_cp", None) is not None]
        assert blocks
        assert not any(m.with_cp for m in blocks), "the reentrant kind is off"
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-12, atol=1e-12)


VIT = dict(
    type="VisionTransformer",
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=28,
    patch_size=7,
)


@pytest.mark.parametrize("backbone", ["swin", "vit"])
def test_a_graph_that_is_differentiated_twice_is_computed_again_twice(backbone):
    """With the attention that can be differentiated so."""
    kind = tiny.architecture()
    names = STAGES
    if backbone == "vit":
        head = dict(type="VisionTransformerClsHead", hidden_dim=None)
        kind = dict(tiny.architecture(head=head), backbone=VIT, neck=None)
        names = ["backbone.layers.0", "backbone.layers.1"]
    exact = dict(
        architecture=kind, alternation=dict(type="DARTS2", derivative="exact", first="alpha")
    )
    plain, model = trained(**exact), trained(**exact, activation_checkpointing=names)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-12, atol=1e-12)


def test_dropped_paths_are_drawn_once_for_both_passes():
    kind = tiny.architecture(backbone=dict(drop_path_rate=0.5))
    plain = trained(architecture=kind, seed=3)
    model = trained(architecture=copy.deepcopy(kind), activation_checkpointing=STAGES, seed=3)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-12, atol=1e-12)


def test_less_is_kept_for_the_backward_pass():
    def kept(model) -> int:
        total = 0

        def pack(x):
            nonlocal total
            total += x.numel()
            return x

        # What is packed in the backward pass is not kept: only the forward pass is looked at.
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            images = torch.stack(tiny.batch()["inputs"]).double()
            model.auxiliary(images, None, mode="tensor")
        return total

    assert kept(tiny.search_model(activation_checkpointing=STAGES)) < 0.5 * kept(
        tiny.search_model()
    )


def test_running_statistics_count_a_batch_once():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))

        def forward(self, x):
            return self.part(x)

    torch.manual_seed(0)
    net = Net().double()
    plain = copy.deepcopy(net)
    assert checkpoint_activations(net, ["part"]) == ["part"]
    x = torch.randn(7, 3, dtype=torch.float64)
    for each in (net, plain):
        each(x).square().sum().backward()
    assert net.part[1].num_batches_tracked == 1
    torch.testing.assert_close(net.part[1].running_mean, plain.part[1].running_mean)
    torch.testing.assert_close(net.part[0].weight.grad, plain.part[0].weight.grad)


def test_both_networks_are_covered_each_by_itself():
    model = tiny.search_model(activation_checkpointing=["backbone"])
    images = torch.stack(tiny.batch()["inputs"]).double()
    outs = {n: getattr(model, n)(images, None, mode="tensor") for n in (AUXILIARY, PRIMARY)}
    assert not torch.equal(outs[AUXILIARY][0], outs[PRIMARY][0])


def test_an_unknown_name_is_an_error_with_names_near_it():
    with pytest.raises(ValueError, match=r"'backbone.stage.0' is no module.*backbone.stages.0"):
        tiny.search_model(activation_checkpointing=["backbone.stage.0"])


def test_a_copy_computes_with_its_own_weights_and_keeps_its_scores():
    names = ["backbone.stages.0.blocks.0.ffn", "backbone.stages.1"]
    model = tiny.search_model(activation_checkpointing=names)
    images = torch.stack(tiny.batch()["inputs"]).double()
    before = model.auxiliary(images, None, mode="tensor")[0]
    twin = copy.deepcopy(model.auxiliary)
    assert scores_of(twin).keys() == scores_of(model.auxiliary).keys()
    assert len(scores_of(twin)) == 4
    torch.nn.init.zeros_(twin.backbone.stages[1].blocks[0].ffn.layers[1].weight)
    assert not torch.equal(twin(images, None, mode="tensor")[0], before)
    torch.testing.assert_close(model.auxiliary(images, None, mode="tensor")[0], before)
