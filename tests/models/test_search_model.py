"""The search model: two networks under one alpha, what is in its state dict and what loads into it."""

import copy
import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.model import (
    ExponentialMovingAverage,
    convert_sync_batchnorm,
    revert_sync_batchnorm,
)
from mmengine.runner import load_checkpoint
from torch import nn

from rarts_mm.models import SearchModel
from rarts_mm.registry import MODELS
from tests import tiny


@pytest.fixture
def model() -> SearchModel:
    return tiny.search_model()


def plain_network(seed: int = 7, **kwargs) -> nn.Module:
    """The architecture itself, with random weights and buffers."""
    network = MODELS.build(
        tiny.architecture(data_preprocessor=tiny.preprocessor(tiny.Doubles), **kwargs)
    )
    return tiny.randomize(network.double(), seed)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_same(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    assert [key for key in wanted if not torch.equal(found[key], wanted[key])] == []


def assert_shared(model: SearchModel) -> None:
    """Both networks compute with the very alphas that the model owns, and own none."""
    alphas = model.alpha_parameters()
    assert list(alphas) == tiny.UNITS
    for network in (model.auxiliary, model.primary):
        layers = [m for m in network.modules() if "alpha" in vars(m)]
        assert len(layers) == len(alphas)
        assert {id(layer.alpha) for layer in layers} == {id(a) for a in alphas.values()}
        owned = {id(p) for p in network.parameters()}
        assert not owned & {id(a) for a in alphas.values()}


def said(model: nn.Module, checkpoint: object, tmp_path) -> str:
    """Load a checkpoint as the Runner does; return what MMEngine says about keys."""
    path = tmp_path / "checkpoint.pth"
    torch.save(checkpoint, path)
    records = []
    logger = logging.getLogger("test_search_model")
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger.addHandler(handler)
    try:
        load_checkpoint(model, str(path), map_location="cpu", logger=logger)
    finally:
        logger.removeHandler(handler)
    return "\n".join(line for line in records if "match exactly" in line)


# --- one alpha -----------------------------------------------------------------------------------


def test_state_dict_is_two_plain_networks_and_one_key_per_unit(model):
    plain = list(plain_network().state_dict())
    keys = list(model.state_dict())
    assert sorted(keys) == sorted(
        [f"{name}.{key}" for name in ("auxiliary", "primary") for key in plain]
        + [f"alpha.{name.replace('.', '/')}" for name in tiny.UNITS]
    )
    sizes = {name: tuple(alpha.shape) for name, alpha in model.alpha_parameters().items()}
    # Head dimensions 8 / 1 and 16 / 2; hidden layers of 4 x 8 and 4 x 16.
    assert sizes == dict(zip(tiny.UNITS, [(8,), (32,), (8,), (64,)], strict=True))


def test_parameters_are_disjoint_groups(model):
    groups = [list(part.parameters()) for part in (model.auxiliary, model.primary, model.alpha)]
    every = [id(p) for group in groups for p in group]
    assert len(every) == len(set(every)) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model,
        lambda model: model.float(),
        lambda model: model.to(torch.bfloat16),
        lambda model: model.half().double(),
        copy.deepcopy,
        lambda model: copy.deepcopy(model).double(),
        lambda model: copy.deepcopy(copy.deepcopy(model)),
        lambda model: model.to("cpu", torch.float64),
    ],
    ids=["as built", "float", "bfloat16", "twice", "deepcopy", "deepcopy double", "two", "to"],
)
def test_both_networks_share_the_models_alpha(model, change):
    changed = change(model)
    assert_shared(changed)
    (dtype,) = {p.dtype for p in changed.parameters()}
    # What the networks compute follows the one alpha: zero scores silence every block.
    with torch.no_grad():
        for alpha in changed.alpha_parameters().values():
            alpha.zero_()
    layer = changed.primary.backbone.stages[0].blocks[0].attn.w_msa.qkv
    assert not layer(torch.ones(1, 8, dtype=dtype)).any()


def test_a_deep_copy_has_an_alpha_of_its_own(model):
    twin = copy.deepcopy(model)
    before = snapshot(model)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1)
    assert_same(snapshot(model), before)
    assert_shared(model)


def test_gradients_of_both_networks_meet_in_alpha(model):
    data = tiny.batch()
    inputs = model.data_preprocessor(data)["inputs"]
    (first, *_) = model.alpha_parameters().values()
    parts = []
    for network in (model.auxiliary, model.primary):
        parts.append(torch.autograd.grad(network(inputs).square().sum(), first)[0])
    (model.auxiliary(inputs).square().sum() + model.primary(inputs).square().sum()).backward()
    torch.testing.assert_close(first.grad, parts[0] + parts[1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(parts[0], parts[1])


def test_averaged_copies_keep_to_the_rule(model):
    average = ExponentialMovingAverage(model, momentum=0.25)
    average.update_parameters(model)
    before = snapshot(average.module)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    average.update_parameters(model)
    assert_shared(average.module)
    for key, value in average.module.named_parameters():
        torch.testing.assert_close(value.detach(), before[key] + 0.25, rtol=0, atol=1e-12)


# --- initialisation ------------------------------------------------------------------------------


def test_init_weights_makes_u_a_copy_of_w():
    model = tiny.search_model(randomized=False)
    tiny.randomize(model.primary, 3)
    alphas = snapshot(model.alpha)
    before = snapshot(model.auxiliary)
    torch.manual_seed(4)
    model.init_weights()
    assert_same(snapshot(model.auxiliary), snapshot(model.primary))
    assert_same(snapshot(model.alpha), alphas)
    assert any(not torch.equal(before[k], v) for k, v in snapshot(model.auxiliary).items())
    assert_shared(model)
    assert all((alpha == 1).all() for alpha in model.alpha_parameters().values())


def test_independent_init_makes_two_draws():
    model = tiny.search_model(randomized=False, independent_init=True)
    torch.manual_seed(4)
    model.init_weights()
    key = "backbone.stages.0.blocks.0.attn.w_msa.qkv.weight"
    w, u = (network.state_dict()[key] for network in (model.auxiliary, model.primary))
    assert not torch.equal(w, u)
    # Both by the same rule: truncated normal of width 0.02.
    torch.testing.assert_close(w.std(), u.std(), rtol=0.5, atol=0)
    assert_shared(model)


def test_initial_scores_are_the_spaces():
    model = tiny.search_model(randomized=False, space=dict(type="WidthSpace", init=0.5))
    assert all((alpha == 0.5).all() for alpha in model.alpha_parameters().values())


def test_one_network():
    model = tiny.search_model(networks=1)
    assert model.primary is None
    model.init_weights()
    assert not any(key.startswith("primary") for key in model.state_dict())
    plain = plain_network()
    model.load_state_dict(plain.state_dict())
    assert_same(snapshot(model.auxiliary), snapshot(plain))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(networks=3), "networks must be 1 or 2, got 3"),
        (dict(keep="mean"), "keep='mean' with 2 network"),
        (dict(networks=1, keep="primary"), "'primary' where there are two networks"),
    ],
)
def test_settings_that_do_not_go_together(kwargs, message):
    with pytest.raises(ValueError, match=message):
        tiny.search_model(**kwargs)


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["bare", "state_dict", "module."])
def test_a_plain_checkpoint_loads_into_both_networks(model, tmp_path, form):
    plain = plain_network()
    state = plain.state_dict()
    checkpoint = {
        "bare": state,
        "state_dict": dict(state_dict=state, meta=dict(epoch=3)),
        "module.": dict(state_dict={f"module.{k}": v for k, v in state.items()}),
    }[form]
    alphas = snapshot(model.alpha)
    assert said(model, checkpoint, tmp_path) == ""
    assert_same(snapshot(model.auxiliary), snapshot(plain))
    assert_same(snapshot(model.primary), snapshot(plain))
    assert_same(snapshot(model.alpha), alphas)
    assert_shared(model)


def test_keys_that_a_plain_checkpoint_lacks_are_named(model, tmp_path):
    state = plain_network().state_dict()
    del state["head.fc.bias"]
    before = model.primary.head.fc.bias.detach().clone()
    words = said(model, state, tmp_path)
    assert "missing keys" in words
    assert "auxiliary.head.fc.bias" in words
    assert "primary.head.fc.bias" in words
    assert "alpha" not in words
    assert torch.equal(model.primary.head.fc.bias, before)


def test_a_backbone_alone_is_a_plain_checkpoint(model, tmp_path):
    plain = plain_network()
    state = {k: v for k, v in plain.state_dict().items() if k.startswith("backbone.")}
    said(model, state, tmp_path)
    assert_same(snapshot(model.primary.backbone), snapshot(plain.backbone))
    assert_same(snapshot(model.auxiliary.backbone), snapshot(plain.backbone))


def test_versions_of_modules_reach_both_networks(model):
    """Modules convert old checkpoints by the version that torch records beside the weights."""
    versions = []

    class Versioned(nn.Linear):
        _version = 5

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
            versions.append((prefix, local_metadata.get("version")))
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    plain = plain_network()
    for network in (plain, model.auxiliary, model.primary):
        network.head.fc = Versioned(16, tiny.CLASSES).double()
    model.load_state_dict(plain.state_dict())
    # Once as in the plain network, for modules that look for names from the root, then in both.
    assert versions == [("head.fc.", 5), ("auxiliary.head.fc.", 5), ("primary.head.fc.", 5)]


def release(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An MMPretrain classifier's state dict under the names and in the order of a Swin release."""
    renames = [
        ("backbone.norm1.", "norm."),
        ("backbone.stages.", "layers."),
        ("backbone.patch_embed.projection.", "patch_embed.proj."),
        ("backbone.", ""),
        (".attn.w_msa.", ".attn."),
        (".ffn.layers.0.0.", ".mlp.fc1."),
        (".ffn.layers.1.", ".mlp.fc2."),
        ("head.fc.", "head."),
    ]
    state = {}
    for key, value in state_dict.items():
        if "downsample" in key:
            # Unfold's channels are (channel, row, column), the original's (column, row, channel).
            value = value.unflatten(-1, (-1, 2, 2)).transpose(-3, -1).flatten(-3)
        for new, old in renames:
            key = key.replace(new, old)
        state[key] = value
    return state


def test_a_checkpoint_of_the_swin_release_loads_into_both(model, tmp_path):
    plain = plain_network()
    state = release(plain.state_dict())
    assert "layers.0.blocks.0.attn.qkv.weight" in state
    assert "layers.0.downsample.reduction.weight" in state
    alphas = snapshot(model.alpha)
    assert said(model, dict(state_dict=state), tmp_path) == ""
    assert_same(snapshot(model.auxiliary), snapshot(plain))
    assert_same(snapshot(model.primary), snapshot(plain))
    assert_same(snapshot(model.alpha), alphas)


def test_a_search_checkpoint_loads_back_exactly(model, tmp_path):
    state = snapshot(model)
    other = tiny.randomize(tiny.search_model(), seed=9)
    assert said(other, dict(state_dict=state), tmp_path) == ""
    assert_same(snapshot(other), state)
    assert_shared(other)
    assert not torch.equal(state["auxiliary.head.fc.weight"], state["primary.head.fc.weight"]), (
        "u and w must differ for this test to say anything"
    )


@pytest.mark.parametrize("strict", [True, False])
def test_a_foreign_checkpoint_is_refused_and_changes_nothing(model, strict):
    before = snapshot(model)
    foreign = {"encoder.weight": torch.zeros(3), "head.fc.weight": torch.zeros(9, 9)}
    with pytest.raises(
        RuntimeError,
        match=r"neither a search nor.*ImageClassifier.*scored layers would keep random",
    ):
        model.load_state_dict(foreign, strict=strict)
    assert_same(snapshot(model), before)


def test_a_search_checkpoint_of_another_architecture_is_refused(model):
    other = tiny.search_model(
        architecture=tiny.architecture(
            backbone=dict(arch=dict(embed_dims=12, depths=[1, 1], num_heads=[1, 2])),
            head=dict(in_channels=24, num_classes=5),
        )
    )
    before = snapshot(model)
    with pytest.raises(RuntimeError, match=r"scores.*backbone\.stages\.0\.blocks\.0\.attn\.w_msa"):
        model.load_state_dict(other.state_dict(), strict=False)
    assert_same(snapshot(model), before)


def test_a_search_of_one_network_does_not_leave_u_behind(model):
    """From joint training to RARTS: u starts as a copy of w, as in a new search."""
    joint = tiny.randomize(tiny.search_model(networks=1), seed=11)
    model.load_state_dict(joint.state_dict())
    assert_same(snapshot(model.auxiliary), snapshot(joint.auxiliary))
    assert_same(snapshot(model.primary), snapshot(joint.auxiliary))
    assert_same(snapshot(model.alpha), snapshot(joint.alpha))


# --- MMEngine's conventions ----------------------------------------------------------------------


def test_the_runners_preprocessor_reaches_both_networks_with_its_batch_augments():
    """MMPretrain's configs have ``data_preprocessor`` at top level and mixup in ``train_cfg``."""
    augments = [dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]
    model = SearchModel(
        architecture=tiny.architecture(train_cfg=dict(augments=augments)),
        # Without a type, as there.
        data_preprocessor=dict(num_classes=tiny.CLASSES, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0]),
    )
    assert model.data_preprocessor is model.auxiliary.data_preprocessor
    for network in (model, model.auxiliary, model.primary):
        found = network.data_preprocessor
        assert type(found).__name__ == "ClsDataPreprocessor"
        assert found.mean.flatten().tolist() == [1, 2, 3]
        assert found.std.flatten().tolist() == [4, 5, 6]
        kinds = [type(augment).__name__ for augment in found.batch_augments.augments]
        assert kinds == ["Mixup", "CutMix"]


def test_the_architectures_own_preprocessor_wins():
    model = SearchModel(
        architecture=tiny.architecture(data_preprocessor=dict(mean=[9.0] * 3, std=[1.0] * 3)),
        data_preprocessor=dict(mean=[1.0] * 3, std=[1.0] * 3),
    )
    assert model.data_preprocessor.mean.flatten().tolist() == [9, 9, 9]


def test_the_config_is_not_changed():
    cfg = Config(dict(architecture=tiny.architecture(), data_preprocessor=tiny.preprocessor()))
    before = cfg.pretty_text
    SearchModel(**cfg)
    assert cfg.pretty_text == before


@pytest.mark.parametrize("keep", ["auxiliary", "primary"])
def test_predictions_are_the_kept_networks(keep):
    model = tiny.search_model(keep=keep)
    model.eval()
    kept, other = model.auxiliary, model.primary
    if keep == "primary":
        kept, other = other, kept
    assert model.kept is kept
    data = tiny.batch(4)
    inputs = model.data_preprocessor(copy.deepcopy(data))["inputs"]
    with torch.no_grad():
        assert torch.equal(model(inputs), kept(inputs))
        assert not torch.equal(model(inputs), other(inputs))
        # The architecture's own path to a prediction, by hand.
        logits = kept.head.fc(kept.neck(kept.backbone(inputs))[0])
        wanted = logits.softmax(1)
        for results in (
            model(inputs, mode="predict"),
            model.val_step(copy.deepcopy(data)),
            model.test_step(copy.deepcopy(data)),
        ):
            scores = torch.stack([sample.pred_score for sample in results])
            torch.testing.assert_close(scores, wanted, rtol=1e-12, atol=1e-12)


def test_frozen_stages_are_frozen_as_soon_as_the_model_is_built():
    """Swin freezes in ``train()``, which the Runner calls after the optimisers are built."""
    model = tiny.search_model(architecture=tiny.architecture(backbone=dict(frozen_stages=0)))
    for network in (model.auxiliary, model.primary):
        frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
        assert frozen
        assert frozen == {
            name
            for name, _ in network.named_parameters()
            if name.startswith(("backbone.patch_embed.", "backbone.stages.0."))
        }
    assert all(alpha.requires_grad for alpha in model.alpha_parameters().values())


def test_an_ordinary_optimiser_and_an_ordinary_batch_are_refused(model):
    from mmengine.optim import OptimWrapper

    ordinary = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match=r"rarts_mm\.RARTSOptimWrapper"):
        model.train_step(tiny.batches(), ordinary)
    with pytest.raises(ValueError, match=r"one batch of each half.*rarts_mm\.SearchLoop"):
        model.train_step(tiny.batch(), tiny.wrap(model))


def test_the_model_survives_a_file(model, tmp_path):
    """Saved as an object (torch.save), not only by its state dict."""
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert_same(snapshot(again), snapshot(model))
    assert_shared(again)


def scored_scales(norm: str) -> SearchModel:
    """A search of a residual network whose batch norms' scales are scores."""
    backbone = dict(
        type="ResNet_CIFAR", depth=18, stem_channels=4, base_channels=4, norm_cfg=dict(type=norm)
    )
    kind = tiny.architecture(head=dict(in_channels=32))
    return tiny.search_model(
        architecture=dict(kind, backbone=backbone), space=dict(type="BatchNormSpace")
    )


def owned_alphas(model: SearchModel) -> set[int]:
    """The alphas that are weights of a network."""
    alphas = {id(a) for a in model.alpha_parameters().values()}
    return alphas & {id(p) for n in (model.auxiliary, model.primary) for p in n.parameters()}


@pytest.mark.parametrize(
    ("norm", "replace"), [("SyncBN", revert_sync_batchnorm), ("BN", convert_sync_batchnorm)]
)
def test_scales_stay_scores_when_the_runner_replaces_norms(norm, replace):
    """It does in a single process, and with ``sync_bn``; the new norms would own their scales."""
    untouched, model = scored_scales(norm), replace(scored_scales(norm))
    assert owned_alphas(model)
    states = []
    for each in (untouched, model):
        wrapper = tiny.wrap(each)
        assert not owned_alphas(each)
        for step in range(2):
            each.train_step(tiny.batches(step), wrapper)
        states.append(snapshot(each))
    assert_same(states[1], states[0])


def test_layers_that_cannot_carry_scores_are_refused_in_the_place_of_those_that_do():
    model = scored_scales("BN")
    block = model.primary.backbone.layer2[1]
    block.bn1 = nn.GroupNorm(1, block.conv1.out_channels).double()
    (name,) = [n for n in model.alpha_parameters() if n.startswith("backbone.layer2.1")]
    block.bn1.weight = model.alpha_parameters()[name]
    with pytest.raises(ValueError, match=r"backbone\.layer2\.1\.bn1\.weight is both.*GroupNorm"):
        tiny.wrap(model)
