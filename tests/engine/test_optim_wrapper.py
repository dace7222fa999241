"""The search's optim wrapper: its step is the printed formula, and its settings do what they say."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.models.necks import GlobalAveragePooling
from torch.nn import functional as F

from rarts_mm.engine import RARTSOptimWrapperConstructor
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY
from tests import tiny

LAM, BETA, GAMMA = 0.7, 0.3, 0.05
LR, DECAY, CLIP = 0.01, 0.05, 0.3
PARAMWISE = dict(
    norm_decay_mult=0.0,
    custom_keys={
        "relative_position_bias_table": dict(decay_mult=0.0),
        "head": dict(lr_mult=0.1, decay_mult=2.0),
    },
)


def searched(model, **cfg):
    settings = dict(lam=LAM, beta=BETA, penalty=dict(type="L1Penalty", gamma=GAMMA))
    return tiny.wrap(model, **{**settings, **cfg})


# --- the formula ---------------------------------------------------------------------------------


def adamw(network) -> torch.optim.AdamW:
    """The weights' optimiser as PARAMWISE describes it, written out."""
    groups = []
    for name, p in network.named_parameters():
        lr, decay = LR, DECAY
        if "relative_position_bias_table" in name:
            decay = 0.0
        elif name.startswith("head"):
            lr, decay = 0.1 * LR, 2 * DECAY
        elif ".norm" in name or "downsample.norm" in name or "patch_embed.norm" in name:
            decay = 0.0
        groups.append(dict(params=[p], lr=lr, weight_decay=decay))
    return torch.optim.AdamW(groups)


def loss_of(network, data):
    """Cross entropy of a batch, by hand."""
    mean = torch.tensor([120.0, 125.0, 130.0], dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor([60.0, 61.0, 62.0], dtype=torch.float64).view(3, 1, 1)
    inputs = (torch.stack(data["inputs"]) - mean) / std
    labels = torch.cat([sample.gt_label for sample in data["data_samples"]])
    return F.cross_entropy(network.head.fc(network.neck(network.backbone(inputs))[0]), labels)


def clipped(gradients):
    norm = torch.sqrt(sum(g.square().sum() for g in gradients))
    # torch adds 1e-6 to the norm that it divides by.
    return norm, [g * min(1.0, CLIP / (norm.item() + 1e-6)) for g in gradients]


def step(optimizer, params, gradients):
    for p, g in zip(params, gradients, strict=True):
        p.grad = g
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("frozen", [-1, 0])
def test_a_training_step_is_the_printed_formula(frozen):
    """Thesis, eq. 2.12, on a classifier: groups of the optimiser, clipping, then the coupling."""
    kind = tiny.architecture(backbone=dict(frozen_stages=frozen))
    model = tiny.search_model(architecture=kind)
    plain = copy.deepcopy(model)
    wrapper = searched(
        model, weights=tiny.weights_config(paramwise_cfg=PARAMWISE, clip_grad=dict(max_norm=CLIP))
    )
    w_net, u_net, alphas = plain.auxiliary, plain.primary, list(plain.alpha.parameters())
    optimizers = adamw(w_net), adamw(u_net), torch.optim.AdamW(alphas, lr=LR, weight_decay=0.0)
    start = ("backbone.patch_embed.", "backbone.stages.0.") if frozen == 0 else ("none",)
    w, u = (
        [p for n, p in net.named_parameters() if not n.startswith(start)] for net in (w_net, u_net)
    )
    assert len(w) < len(list(w_net.parameters())) or frozen == -1
    hub = MessageHub.get_current_instance()

    for i in range(3):
        data = tiny.batches(seed=i)
        # The Runner does this at every epoch, and Swin freezes its stages again in it.
        model.train()
        log = model.train_step(copy.deepcopy(data), wrapper)

        g = torch.autograd.grad(LAM * loss_of(w_net, data[AUXILIARY]), w)
        norm_w, g = clipped(g)
        assert norm_w > CLIP, "clipping must have an effect for this test to say anything"
        step(
            optimizers[0], w, [x + BETA * (p - q).detach() for x, p, q in zip(g, w, u, strict=True)]
        )

        norm_u, g = clipped(torch.autograd.grad(loss_of(u_net, data[PRIMARY]), u))
        step(
            optimizers[1], u, [x + BETA * (p - q).detach() for x, p, q in zip(g, u, w, strict=True)]
        )

        loss_a, loss_p = loss_of(w_net, data[AUXILIARY]), loss_of(u_net, data[PRIMARY])
        g_a, g_p = torch.autograd.grad(loss_a, alphas), torch.autograd.grad(loss_p, alphas)
        penalty = GAMMA * sum(a.detach().abs().sum().item() for a in alphas)
        g = [LAM * x + y for x, y in zip(g_a, g_p, strict=True)]
        g = [x + GAMMA * a.detach().sign() for x, a in zip(g, alphas, strict=True)]
        step(optimizers[2], alphas, g)

        wanted = dict(
            loss=loss_p.item() + LAM * loss_a.item(),
            loss_primary=loss_p.item(),
            loss_auxiliary=loss_a.item(),
            penalty=penalty,
        )
        assert log.keys() == wanted.keys()
        for key, value in wanted.items():
            assert float(log[key]) == pytest.approx(value, rel=1e-9), key
        assert hub.get_scalar("train/auxiliary.grad_norm").current() == pytest.approx(norm_w.item())
        assert hub.get_scalar("train/primary.grad_norm").current() == pytest.approx(norm_u.item())
        found, reference = model.state_dict(), plain.state_dict()
        for key in reference:
            torch.testing.assert_close(
                found[key], reference[key], rtol=1e-9, atol=1e-11, msg=lambda m, k=key: f"{k}: {m}"
            )


def test_alpha_moves_by_its_own_optimiser():
    model = tiny.search_model()
    plain = copy.deepcopy(model)
    alpha = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=2.0, momentum=0.9))
    wrapper = searched(model, alpha=alpha)
    assert type(wrapper[ALPHA].optimizer) is torch.optim.SGD
    model.train_step(tiny.batches(), wrapper)
    # With w and u where they are after the step, alpha's gradient is the formula's.
    plain.auxiliary.load_state_dict(model.auxiliary.state_dict())
    plain.primary.load_state_dict(model.primary.state_dict())
    data = tiny.batches()
    loss = LAM * loss_of(plain.auxiliary, data[AUXILIARY]) + loss_of(plain.primary, data[PRIMARY])
    gradients = torch.autograd.grad(loss, list(plain.alpha.parameters()))
    for found, old, g in zip(
        model.alpha.parameters(), plain.alpha.parameters(), gradients, strict=True
    ):
        wanted = old - 2.0 * (g + GAMMA * old.sign())
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_joint_training_takes_both_gradients_in_one_network():
    model = tiny.search_model(networks=1)
    plain = copy.deepcopy(model)
    weights = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    wrapper = searched(model, weights=weights, alternation=dict(type="Joint"))
    data = tiny.batches()
    log = model.train_step(copy.deepcopy(data), wrapper)
    losses = {half: loss_of(plain.auxiliary, data[half]) for half in data}
    params = [*plain.auxiliary.parameters(), *plain.alpha.parameters()]
    total = losses[PRIMARY] + LAM * losses[AUXILIARY]
    gradients = torch.autograd.grad(total, params)
    assert float(log["loss"]) == pytest.approx(total.item(), rel=1e-12)
    scores = {id(a) for a in plain.alpha.parameters()}
    found = [*model.auxiliary.parameters(), *model.alpha.parameters()]
    for new, old, g in zip(found, params, gradients, strict=True):
        g = g + GAMMA * old.sign() if id(old) in scores else g
        torch.testing.assert_close(new, old - 0.1 * g, rtol=1e-9, atol=1e-11)


# --- what does not take part ---------------------------------------------------------------------


def test_frozen_parameters_are_neither_stepped_nor_coupled():
    model = tiny.search_model()
    for network in (model.auxiliary, model.primary):
        network.backbone.patch_embed.requires_grad_(False)
        network.head.fc.bias.requires_grad_(False)
    wrapper = searched(model)
    frozen = {
        id(p)
        for network in (model.auxiliary, model.primary)
        for p in (*network.backbone.patch_embed.parameters(), network.head.fc.bias)
    }
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for i in range(2):
        model.train_step(tiny.batches(i), wrapper)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == (id(p) in frozen), name
        assert p.requires_grad == (id(p) not in frozen), name
        assert p.grad is None, name
    for player in wrapper.stepper.players.values():
        assert not {id(p) for p in player.params} & frozen


class Pooling(GlobalAveragePooling):
    """MMDetection's backbones return a list, MMPretrain's necks want a tuple."""

    def forward(self, inputs):
        return super().forward(tuple(inputs))


@pytest.mark.parametrize("library", ["mmpretrain", "mmdet"])
def test_stages_that_a_backbone_freezes_in_train_stay_frozen(library):
    cfg = tiny.architecture(backbone=dict(frozen_stages=0))
    if library == "mmdet":
        cfg["neck"]["type"] = Pooling
        cfg["backbone"] = dict(
            type="mmdet.SwinTransformer",
            embed_dims=8,
            depths=(1, 1),
            num_heads=(1, 2),
            strides=(4, 2),
            window_size=3,
            out_indices=(1,),
            drop_path_rate=0.0,
            frozen_stages=1,  # counts from one here
        )
    model = tiny.search_model(architecture=cfg)
    wrapper = searched(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    model.train_step(tiny.batches(), wrapper)
    still = {
        k.partition(".")[2]
        for k, v in model.state_dict().items()
        if torch.equal(v, before[k]) and not k.endswith("index") and not k.startswith("alpha")
    }
    assert still
    assert still == {
        k
        for k in model.auxiliary.state_dict()
        if k.startswith(("backbone.patch_embed.", "backbone.stages.0."))
        and not k.endswith("relative_position_index")
    }


@ROOT_MODELS.register_module()
class SpoilingHead(LinearClsHead):
    """Overwrites the labels that it is given, as some losses do, and notes what it was given."""

    seen: list = []  # noqa: RUF012 - shared on purpose: by u, w and all forward passes

    def loss(self, feats, data_samples, **kwargs):
        self.seen.append([sample.gt_label.item() for sample in data_samples])
        losses = super().loss(feats, data_samples, **kwargs)
        for sample in data_samples:
            sample.gt_label.fill_(tiny.CLASSES - 1)
            sample.set_field([1], "spoiled")
        return losses


def test_what_a_loss_writes_into_its_samples_does_not_reach_the_next_pass():
    SpoilingHead.seen.clear()
    model = tiny.search_model(architecture=tiny.architecture(head=dict(type=SpoilingHead)))
    data = tiny.batches()
    labels = {h: [s.gt_label.item() for s in b["data_samples"]] for h, b in data.items()}
    assert {*labels[AUXILIARY], *labels[PRIMARY]} != {tiny.CLASSES - 1}
    model.train_step(data, searched(model))
    assert SpoilingHead.seen == 2 * [labels[AUXILIARY], labels[PRIMARY]]


def test_mixup_is_drawn_once_per_batch_and_step():
    augments = dict(augments=[dict(type="Mixup", alpha=1.0)])
    model = tiny.search_model(architecture=tiny.architecture(train_cfg=augments))
    wrapper = searched(model)
    seen = []
    for name in (AUXILIARY, PRIMARY):
        getattr(model, name).backbone.register_forward_pre_hook(
            lambda _, args, name=name: seen.append((name, args[0].clone()))
        )
    for _ in range(2):
        # The same images again: only the draw differs.
        model.train_step(tiny.batches(), wrapper)
    assert [name for name, _ in seen] == 4 * [AUXILIARY, PRIMARY]
    images = [image for _, image in seen]
    for first in (0, 1, 4, 5):
        assert torch.equal(images[first], images[first + 2])
    for first in (0, 1):
        assert not torch.equal(images[first], images[first + 4])
    pure = model.data_preprocessor(tiny.batch(seed=0), training=False)["inputs"]
    assert not torch.equal(images[0], pure)


# --- the constructor -----------------------------------------------------------------------------


def test_alphas_default_is_the_weights_optimiser_without_decay_and_clipping():
    weights = tiny.weights_config(paramwise_cfg=PARAMWISE, clip_grad=dict(max_norm=CLIP))
    weights["optimizer"]["betas"] = (0.8, 0.9)
    wrapper = tiny.wrap(tiny.search_model(), weights=weights)
    (group,) = wrapper[ALPHA].optimizer.param_groups
    assert type(wrapper[ALPHA].optimizer) is torch.optim.AdamW
    assert (group["lr"], group["weight_decay"], group["betas"]) == (LR, 0.0, (0.8, 0.9))
    assert not wrapper[ALPHA].clip_grad_kwargs
    assert wrapper.stepper.players[ALPHA].clip is None
    assert wrapper[PRIMARY].clip_grad_kwargs == dict(max_norm=CLIP)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Rprop", "Adagrad", "NAdam"])
def test_any_optimiser_of_torch_takes_a_step(name):
    model = tiny.search_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    wrapper = searched(model, weights=dict(optimizer=dict(type=name, lr=0.01)))
    assert type(wrapper[ALPHA].optimizer) is getattr(torch.optim, name)
    assert wrapper[ALPHA].param_groups[0].get("weight_decay", 0) == 0
    model.train_step(tiny.batches(), wrapper)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == key.endswith("relative_position_index"), key


@pytest.mark.parametrize("kind", ["AmpOptimWrapper", "mmengine.AmpOptimWrapper", AmpOptimWrapper])
def test_amp_in_the_weights_wrapper_becomes_the_searchs(kind):
    weights = dict(type=kind, optimizer=dict(type="SGD", lr=0.1), dtype="float16", loss_scale=512.0)
    wrapper = tiny.wrap(tiny.search_model(), weights=weights)
    for name, member in wrapper.items():
        assert type(member) is OptimWrapper, name
    assert wrapper.amp_dtype is torch.float16
    assert wrapper.scaler.get_scale() == 512
    assert wrapper.stepper.scaler is wrapper.scaler


def test_amps_defaults_and_precedence():
    weights = dict(type="AmpOptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    wrapper = tiny.wrap(tiny.search_model(), weights=weights)
    assert (wrapper.amp_dtype, wrapper.scaler.get_scale()) == (torch.float16, 65536)
    wrapper = tiny.wrap(tiny.search_model(), weights=weights, amp=dict(dtype="bfloat16"))
    assert (wrapper.amp_dtype, wrapper.scaler) == (torch.bfloat16, None)
    wrapper = tiny.wrap(tiny.search_model(), weights=dict(weights, type=OptimWrapper))
    assert (wrapper.amp_dtype, wrapper.scaler) == (None, None)


@pytest.mark.parametrize(
    ("networks", "cfg", "message"),
    [
        (2, dict(weights=dict(type="Nonsense", optimizer=dict(type="SGD", lr=1.0))), "Nonsense"),
        (2, dict(weights=None), r"weights=_base_\.optim_wrapper"),
        (
            2,
            dict(alpha=tiny.weights_config(accumulative_counts=2)),
            r"Set optim_wrapper\.accumulative_counts instead",
        ),
        (2, dict(alternation=dict(type="RATS")), r"unknown alternation 'RATS'.*Joint.*RARTS"),
        (2, dict(alternation=dict(type="Joint")), r"set model\.networks=1"),
        (1, dict(), r"RARTS needs two networks; set model\.networks=2"),
        (2, dict(optimizer=dict(type="SGD")), "unknown keys.*'optimizer'.*belong into"),
        (2, dict(lamda=1.0), "unknown keys.*'lamda'.*'lam'"),
        (2, dict(lam=-1.0), r"lam \(lambda of the Lagrangian\).*-1"),
        (2, dict(beta=float("nan")), r"beta \(beta of the Lagrangian\)"),
        (2, dict(penalty=dict(type="L1Penalty", gamma=-1)), "gamma must be.*-1"),
        (2, dict(amp=dict(dtype="float32")), r"bfloat16.*float16.*got 'float32'"),
        (2, dict(amp=dict(kind="float16")), r"unknown keys in amp: \['kind'\]"),
        (2, dict(amp=dict(loss_scale="dynamik")), r"amp\.loss_scale.*'dynamik'"),
    ],
)
def test_settings_that_cannot_work_name_the_remedy(networks, cfg, message):
    model = tiny.search_model(networks=networks)
    full = dict(weights=tiny.weights_config()) | cfg
    with pytest.raises(ValueError, match=message):
        RARTSOptimWrapperConstructor({k: v for k, v in full.items() if v is not None})(model)


def test_paramwise_cfg_at_the_top_is_refused():
    with pytest.raises(ValueError, match=r"belongs into optim_wrapper\.weights"):
        RARTSOptimWrapperConstructor(dict(weights=tiny.weights_config()), dict(norm_decay_mult=0))


def test_a_plain_model_is_refused():
    model = tiny.search_model().auxiliary
    with pytest.raises(TypeError, match=r"ImageClassifier: wrap the architecture.*SearchModel"):
        tiny.wrap(model)


def test_a_network_that_is_all_frozen_is_refused():
    model = tiny.search_model()
    model.primary.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of 'primary' requires a gradient; thaw"):
        tiny.wrap(model)


def test_the_configs_penalties_add_up():
    penalties = [dict(type="L1Penalty", gamma=0.1), dict(type="L1Penalty", gamma=0.2)]
    model = tiny.search_model()
    scores = torch.cat([a.detach() for a in model.alpha.parameters()])
    log = model.train_step(tiny.batches(), tiny.wrap(model, penalty=penalties))
    assert float(log["penalty"]) == pytest.approx(0.3 * scores.abs().sum().item(), rel=1e-9)


# --- mixed precision -----------------------------------------------------------------------------


def single(model):
    """The model in float32, and its preprocessor too."""
    return model.float()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains_like_full_precision_and_keeps_alpha_in_fp32(dtype):
    settings = dict(data_preprocessor=tiny.preprocessor())
    model = single(tiny.search_model(**settings))
    plain = copy.deepcopy(model)
    cfg = dict(
        weights=dict(optimizer=dict(type="SGD", lr=0.1)), amp=dict(dtype=dtype, loss_scale=128.0)
    )
    mixed, full = searched(model, **cfg), searched(plain, **{**cfg, "amp": None})
    outputs = []
    for layer in (
        model.auxiliary.head.fc,
        model.primary.backbone.stages[0].blocks[0].attn.w_msa.qkv,
    ):
        layer.register_forward_hook(lambda _m, _i, out: outputs.append(out.dtype))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    for i in range(2):
        log = model.train_step(tiny.batches(i), mixed)
        reference = plain.train_step(tiny.batches(i), full)
    assert set(outputs) == {getattr(torch, dtype)}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(a.dtype == torch.float32 for a in model.alpha.parameters())
    assert log["loss_primary"].dtype == torch.float32
    assert float(log["loss"]) == pytest.approx(float(reference["loss"]), rel=0.05)
    # Penalty and alpha are in fp32: only the losses' gradients are rounded.
    moved = torch.cat([(p - start[n]).flatten() for n, p in model.named_parameters()])
    wanted = torch.cat([(p - start[n]).flatten() for n, p in plain.named_parameters()])
    assert F.cosine_similarity(moved, wanted, dim=0) > 0.99
    assert not torch.equal(moved, wanted)


def test_a_step_that_overflows_is_reported_by_what_it_evaluated():
    """float16's first steps usually overflow until the scale has come down."""
    model = single(tiny.search_model(data_preprocessor=tiny.preprocessor()))
    wrapper = searched(model, amp=dict(dtype="float16", loss_scale=dict(init_scale=2.0**40)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    log = model.train_step(tiny.batches(), wrapper)
    assert log.keys() == {"loss_auxiliary", "penalty"}
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    for _ in range(40):
        scale = wrapper.scaler.get_scale()
        log = model.train_step(tiny.batches(), wrapper)
        if wrapper.scaler.get_scale() == scale:
            break
        assert wrapper.scaler.get_scale() == scale / 2
    # The scale that works is found, and then all three move.
    assert scale < 2.0**39
    assert log.keys() == {"loss", "loss_primary", "loss_auxiliary", "penalty"}
    for name in (AUXILIARY, PRIMARY):
        key = f"{name}.head.fc.weight"
        assert not torch.equal(model.state_dict()[key], before[key])
    assert all((a != before[f"alpha.{n}"]).any() for n, a in model.alpha.named_parameters())


@pytest.mark.parametrize("scale", [64.0, "dynamic", dict(init_scale=32.0, growth_interval=2)])
def test_the_loss_scale_is_saved_and_restored(scale):
    def build():
        model = single(tiny.search_model(data_preprocessor=tiny.preprocessor()))
        return model, searched(model, amp=dict(dtype="float16", loss_scale=scale))

    model, wrapper = build()
    start = wrapper.scaler.get_scale()
    for i in range(3):
        model.train_step(tiny.batches(i), wrapper)
    end = wrapper.scaler.get_scale()
    if scale == 64.0:
        assert start == end == 64.0, "a number stays"
    elif scale == "dynamic":
        assert start == 65536
    else:
        assert (start, end) == (32.0, 64.0), "grown once after two good steps"
    state = copy.deepcopy(wrapper.state_dict())
    weights = copy.deepcopy(model.state_dict())

    again, other = build()
    again.load_state_dict(weights)
    other.load_state_dict(state)
    assert other.scaler.get_scale() == end
    assert other.scaler.state_dict() == wrapper.scaler.state_dict()
    for i in range(3, 6):
        model.train_step(tiny.batches(i), wrapper)
        again.train_step(tiny.batches(i), other)
    for key, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
    assert other.scaler.get_scale() == wrapper.scaler.get_scale()


def test_a_static_loss_scale_stays_where_it_is_after_an_overflow():
    model = single(tiny.search_model(data_preprocessor=tiny.preprocessor()))
    wrapper = searched(model, amp=dict(dtype="float16", loss_scale=2.0**40))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for i in range(2):
        model.train_step(tiny.batches(i), wrapper)
    assert wrapper.scaler.get_scale() == 2.0**40
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_an_optimiser_state_goes_between_runs_with_and_without_a_scaler():
    model = single(tiny.search_model(data_preprocessor=tiny.preprocessor()))
    plain, scaled = searched(model), searched(model, amp=dict(dtype="float16", loss_scale=64.0))
    model.train_step(tiny.batches(), scaled)
    plain.load_state_dict(scaled.state_dict())
    for name in (AUXILIARY, PRIMARY, ALPHA):
        for p, state in scaled[name].optimizer.state.items():
            assert torch.equal(plain[name].optimizer.state[p]["exp_avg"], state["exp_avg"])
    scaled.load_state_dict(plain.state_dict())
    assert scaled.scaler.get_scale() == 64
