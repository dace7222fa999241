"""A search that was cut off and resumed ends where an uninterrupted one ends."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope

from rarts_mm.registry import MODELS
from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY
from tests import tiny

SCHEDULE = dict(
    type="CosineAnnealingLR",
    eta_min=1e-4,
    by_epoch=True,
    convert_to_iter_based=True,
    begin=0,
    end=2,
)


class CutOff(Hook):
    """The power fails in the middle of an epoch."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


def run(work_dir: Path, amp: dict | None = None, alternation: str = "RARTS", **kwargs):
    networks = 1 if alternation == "Joint" else 2
    runner = tiny.runner(
        work_dir,
        epochs=2,
        model=dict(
            type="rarts_mm.SearchModel", architecture=tiny.architecture(), networks=networks
        ),
        optim_wrapper=dict(
            type="rarts_mm.RARTSOptimWrapper",
            constructor="rarts_mm.RARTSOptimWrapperConstructor",
            weights=tiny.weights_config(
                clip_grad=dict(max_norm=1.0), paramwise_cfg=dict(norm_decay_mult=0.0)
            ),
            penalty=dict(type="L1Penalty", gamma=1e-3),
            alternation=dict(type=alternation),
            amp=amp,
        ),
        param_scheduler=[SCHEDULE],
        **kwargs,
    )
    runner.train()
    return runner


def assert_equal(found, wanted, where: str = "") -> None:
    """Nested states, to the last bit."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            assert_equal(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), where
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_equal(one, other, f"{where}[{i}]")
    elif isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype, where
        assert torch.equal(found, wanted), where
    else:
        assert found == wanted, where


@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(amp=dict(dtype="bfloat16")),
        dict(amp=dict(dtype="float16", loss_scale=dict(init_scale=4.0, growth_interval=2))),
        dict(alternation="Joint"),
    ],
    ids=["fp32", "bfloat16", "float16", "joint"],
)
def test_a_resumed_search_is_the_uninterrupted_one_to_the_last_bit(tmp_path, settings):
    run(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", custom_hooks=[CutOff(5)], **settings)
    assert not (tmp_path / "parts" / "epoch_2.pth").exists()
    resumed = run(tmp_path / "parts", resume=True, **settings)
    assert (resumed.epoch, resumed.iter) == (2, 6)

    first = torch.load(tmp_path / "parts" / "epoch_1.pth", weights_only=False)
    whole, parts = (
        torch.load(tmp_path / name / "epoch_2.pth", weights_only=False)
        for name in ("whole", "parts")
    )
    for key in ("state_dict", "optimizer", "param_schedulers", "rarts_mm"):
        assert_equal(parts[key], whole[key], key)
    moved = [
        k for k, v in whole["state_dict"].items() if not torch.equal(v, first["state_dict"][k])
    ]
    assert any(k.startswith("alpha.") for k in moved)
    players = {AUXILIARY, ALPHA} | ({PRIMARY} if "alternation" not in settings else set())
    assert set(whole["optimizer"]) - {"scaler"} == players
    assert ("scaler" in whole["optimizer"]) == (settings.get("amp", {}).get("dtype") == "float16")


class AtStart(Hook):
    """Notes the weights as training starts."""

    priority = "LOWEST"
    state: dict

    def before_train(self, runner) -> None:
        self.state = {k: v.clone() for k, v in runner.model.state_dict().items()}


def test_a_plain_checkpoint_is_both_networks_start_and_a_resumed_search_keeps_both(tmp_path):
    init_default_scope("mmpretrain")
    plain = tiny.randomize(MODELS.build(tiny.architecture()), seed=8)
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / "plain.pth")
    start = AtStart()
    run(tmp_path / "search", custom_hooks=[start], load_from=str(tmp_path / "plain.pth"))
    for key, value in plain.state_dict().items():
        assert torch.equal(start.state[f"auxiliary.{key}"], value)
        assert torch.equal(start.state[f"primary.{key}"], value)
    assert all((v == 1).all() for k, v in start.state.items() if k.startswith("alpha."))

    saved = torch.load(tmp_path / "search" / "epoch_1.pth", weights_only=False)["state_dict"]
    again = AtStart()
    resume = str(tmp_path / "search" / "epoch_1.pth")
    run(tmp_path / "again", custom_hooks=[again], load_from=resume, resume=True)
    assert_equal(again.state, dict(saved))
    assert not torch.equal(saved["auxiliary.head.fc.weight"], saved["primary.head.fc.weight"])


def test_a_search_config_refuses_a_checkpoint_of_something_else(tmp_path):
    foreign = dict(state_dict={"encoder.weight": torch.zeros(2)}, meta={})
    torch.save(foreign, tmp_path / "foreign.pth")
    with pytest.raises(RuntimeError, match="fits neither a search nor its architecture"):
        run(tmp_path / "search", load_from=str(tmp_path / "foreign.pth"))
