"""Every alternation from its config; what cannot work is said before the first step."""

import copy

import pytest
import torch
from mmcv.ops import RoIAlign
from mmengine.logging import MMLogger

from rarts_mm.apis.command_line import speaks_for_itself
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY, Alternation
from tests import tiny

ONE = ("DARTS1", "DARTS2", "MiLeNAS", "Joint")


@pytest.mark.parametrize("kind", ["RARTS", "RARTSJacobi"])
def test_two_network_alternations_step_all_three(kind):
    model = tiny.search_model()
    wrapper = tiny.wrap(model, alternation=dict(type=kind))
    assert set(wrapper.keys()) == {AUXILIARY, PRIMARY, ALPHA}
    moved(model, wrapper, ("auxiliary.", "primary.", "alpha."))


@pytest.mark.parametrize("kind", ONE)
def test_one_network_alternations_hold_one_network(kind):
    model = tiny.search_model(networks=1)
    wrapper = tiny.wrap(model, alternation=dict(type=kind))
    assert set(wrapper.keys()) == {AUXILIARY, ALPHA}
    assert not any(k.startswith("primary") for k in model.state_dict())
    moved(model, wrapper, ("auxiliary.", "alpha."))


def test_weights_only_leaves_alpha_and_computes_no_gradient_of_it():
    model = tiny.search_model(networks=1)
    wrapper = tiny.wrap(model, alternation=dict(type="WeightsOnly"))
    assert set(wrapper.keys()) == {AUXILIARY}
    moved(model, wrapper, ("auxiliary.",))
    assert all(a.grad is None and not a.requires_grad for a in model.alpha.parameters())


def moved(model, wrapper, prefixes):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    log = model.train_step(tiny.batches(), wrapper)
    assert {"loss", "loss_primary", "loss_auxiliary"} <= log.keys()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    for prefix in prefixes:
        assert any(k.startswith(prefix) for k in changed), prefix
    assert all(k.startswith(prefixes) for k in changed)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(alternation=dict(type="Darts")),
            r"unknown alternation 'Darts'; known are .*'DARTS1'",
        ),
        (dict(alternation=dict()), "unknown alternation None"),
        (dict(penalty=dict(type="L2")), r"unknown penalty 'L2'; known are .*'L1Penalty'"),
        (dict(penalty=[dict(type="L1Penalty"), dict(type="L0")]), "unknown penalty 'L0'"),
        (dict(penalty=dict(type="L1Penalty", gamma=-1.0)), "gamma must be a finite number >= 0"),
        (dict(alternation="Joint"), "alternation='Joint' must be a dict.*alternation.type=..."),
        (dict(penalty="L1Penalty"), "penalty='L1Penalty' must be a dict"),
        (
            dict(penalty=dict(type="L1Penalty", gama=1.0)),
            r"unknown key 'gama' of optim_wrapper.penalty \(L1Penalty\); known are \['gamma'\]",
        ),
        (
            dict(alternation=dict(type="RARTS", xi=1.0)),
            "unknown key 'xi' of optim_wrapper.alternation",
        ),
        (dict(lam=-0.5), "lambda of the Lagrangian"),
        (dict(beta=float("nan")), "beta of the Lagrangian"),
        (dict(lam=True), "lambda of the Lagrangian.*got True"),
        (dict(beta=False), "beta of the Lagrangian.*got False"),
        (dict(amp=True), r"amp=True must be None .*dict\(dtype='float16'\).*--amp"),
        (dict(amp=dict(dtype=["float16"])), r"amp\.dtype must be one of .*\['float16'\]"),
        (dict(weights=None), r"weights=None is no config.*_base_\.optim_wrapper"),
        (dict(weights="SGD"), "weights='SGD' is no config"),
        (dict(weights=dict(type="OptimWrapper")), r"weights\.optimizer=None is no config: give"),
        (
            dict(weights=dict(optimizer="SGD"), alpha=tiny.weights_config()),
            r"weights\.optimizer='SGD' is no config",
        ),
        (dict(alpha=dict(type="SGD", lr=0.1)), r"alpha\.optimizer=None is no config: give"),
        (
            dict(weights=dict(optimizer=dict(type="AdamX", lr=0.1))),
            r"weights\.optimizer\.type='AdamX' is no registered.*'Adam'.*custom_imports",
        ),
        (
            dict(alpha=tiny.weights_config(paramwise_cfg=dict(custom_keys=["backbone"]))),
            r"custom_keys=\['backbone'\] must be a dict",
        ),
        (dict(weights=dict(optimizer=dict(lr=0.1))), r"weights\.optimizer\.type=None is no"),
        (
            dict(alpha=dict(optimizer=dict(type="mmpretrain.Lambda", lr=0.1))),
            r"alpha\.optimizer\.type='mmpretrain.Lambda' is no registered",
        ),
        (dict(coupling="both"), r"coupling must be one of .*'decoupled'"),
        (dict(alternation=dict(type="DARTS1")), "set model.networks=1"),
        (
            dict(weights=dict(optimizer=dict(type="LBFGS", lr=0.1))),
            "LBFGS of 'auxiliary' evaluates the loss several times",
        ),
    ],
)
def test_what_cannot_work_names_value_reason_and_remedy(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        tiny.wrap(tiny.search_model(), **settings)
    assert speaks_for_itself(error.value), "a command line prints it without a traceback"


@pytest.mark.parametrize("kind", ["Lamb", "mmpretrain.Lamb", "torch.optim.SGD", torch.optim.SGD])
def test_an_optimiser_by_any_name(kind):
    """Also one of the library whose scope it is."""
    weights = dict(optimizer=dict(type=kind, lr=0.1))
    wrapper = tiny.wrap(tiny.search_model(), weights=weights)
    name = kind if isinstance(kind, str) else "SGD"
    assert type(wrapper[ALPHA].optimizer).__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize("slash", [".", "/"])
def test_custom_keys_of_alpha_are_units_names(slash):
    keys = {
        "backbone.stages.0": dict(lr_mult=0.1),
        "stages.0.blocks.0.ffn": dict(lr_mult=0.5, decay_mult=0.0),
    }
    alpha = tiny.weights_config(
        paramwise_cfg=dict(custom_keys={k.replace(".", slash): v for k, v in keys.items()})
    )
    before = copy.deepcopy(alpha)
    model = tiny.search_model()
    wrapper = tiny.wrap(model, alpha=alpha)
    assert alpha == before
    names = {id(a): name for name, a in model.alpha_parameters().items()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in wrapper[ALPHA].optimizer.param_groups
        for p in group["params"]
    }
    assert found == {
        "backbone.stages.0.blocks.0.attn.w_msa": (pytest.approx(0.001), 0.05),
        # The longest key counts.
        "backbone.stages.0.blocks.0.ffn": (pytest.approx(0.005), 0.0),
        "backbone.stages.1.blocks.0.attn.w_msa": (0.01, 0.05),
        "backbone.stages.1.blocks.0.ffn": (0.01, 0.05),
    }


@pytest.mark.parametrize("key", ["backbone.stages.2", "relative_position_bias_table", "head"])
def test_a_custom_key_of_no_alpha_is_refused(key):
    keys = {"backbone": dict(lr_mult=0.5), key: dict(lr_mult=0.1)}
    message = (
        rf"custom_keys: '{key}' is part of no alpha's name.*'backbone\.stages\.0\.blocks\.0\.ffn'"
    )
    with pytest.raises(ValueError, match=message):
        tiny.wrap(
            tiny.search_model(), alpha=tiny.weights_config(paramwise_cfg=dict(custom_keys=keys))
        )


@pytest.mark.parametrize(
    ("alternation", "message"),
    [
        (dict(type="RARTS"), "RARTS needs two networks; set model.networks=2"),
        (dict(type="DARTS2", xi=-0.1), r"xi=-0.1, the length of the virtual step"),
        (dict(type="DARTS2", derivative="forward"), r"derivative='forward' must be one of"),
        (dict(type="DARTS1", first="u"), r"first='u' must be 'w'"),
    ],
)
def test_one_network_settings_are_checked(alternation, message):
    with pytest.raises(ValueError, match=message):
        tiny.wrap(tiny.search_model(networks=1), alternation=alternation)


def test_a_penalty_without_alpha_is_an_error():
    with pytest.raises(ValueError, match="WeightsOnly does not move alpha"):
        tiny.wrap(
            tiny.search_model(networks=1),
            alternation=dict(type="WeightsOnly"),
            penalty=dict(type="L1Penalty"),
        )


def test_an_empty_alpha_is_an_error():
    model = tiny.search_model()
    for name in list(model.alpha._parameters):
        del model.alpha._parameters[name]
    with pytest.raises(ValueError, match="alpha is empty; widen"):
        tiny.wrap(model)


def test_operators_that_cannot_be_differentiated_twice_are_refused():
    model = tiny.search_model(networks=1)
    model.auxiliary.roi = RoIAlign(2)
    exact = dict(type="DARTS2", derivative="exact")
    with pytest.raises(ValueError, match=r"RoIAlign; use derivative='finite-difference'"):
        tiny.wrap(model, alternation=exact)
    tiny.wrap(model, alternation=dict(type="DARTS2"))


def test_settings_that_an_alternation_does_not_read_are_told(caplog):
    logger = MMLogger.get_instance("unused", log_level="INFO")
    logger.addHandler(caplog.handler)
    model = tiny.search_model(networks=1)
    tiny.wrap(model, alternation=dict(type="DARTS1"), lam=2.0, beta=0.3)
    logger.removeHandler(caplog.handler)
    assert "DARTS1 does not use optim_wrapper.lam and .beta" in caplog.text


def test_mixed_precision_of_alphas_optimiser_alone_is_refused():
    """It would be read by nobody; where the weights have it too, it is theirs."""
    amp = tiny.weights_config() | dict(type="AmpOptimWrapper")
    with pytest.raises(ValueError, match=r"optim_wrapper\.alpha\.type.*optim_wrapper\.amp"):
        tiny.wrap(tiny.search_model(), alpha=amp)
    both = tiny.wrap(tiny.search_model(), weights=amp, alpha=amp)
    assert both.amp_dtype is torch.float16


def test_a_rule_that_does_not_say_what_it_moves_is_refused():
    class Speechless(Alternation):
        def __call__(self, s):
            pass

    with pytest.raises(ValueError, match=r"Speechless: the class does not say in ``players``"):
        tiny.wrap(tiny.search_model(), alternation=dict(type=Speechless))
