"""The full-size search configs: what they search, from what, and with which optimisers."""

from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from rarts_mm.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs"


def build(cfg: Config):
    init_default_scope(cfg.default_scope)
    # The Runner hands a top-level data preprocessor to the outermost model, as here.
    preprocessor = cfg.get("data_preprocessor")
    extra = dict(data_preprocessor=preprocessor) if preprocessor is not None else {}
    return MODELS.build(dict(cfg.model, **extra))


@pytest.mark.parametrize(
    ("name", "total", "rate"),
    [
        ("sidt_swin_t_coco.py", 85_629_804, 1e-4),
        ("sidt_swin_t_cifar100.py", 27_596_254, 2.5e-4),
    ],
)
def test_two_networks_and_one_set_of_scores(name, total, rate):
    cfg = Config.fromfile(CONFIGS / name)
    model = build(cfg)
    alphas = model.alpha_parameters()
    attention = {unit for unit in alphas if unit.endswith("w_msa")}
    assert sum(alphas[unit].numel() for unit in attention) == 384
    assert sum(alpha.numel() for alpha in alphas.values()) == 384 + 17_664
    assert len(alphas) == 24
    weights = [parameter.numel() for parameter in model.parameters()]
    assert sum(weights) == 2 * total + 18_048

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for player in ("auxiliary", "primary"):
        optimizer = wrapper[player].optimizer
        assert isinstance(optimizer, torch.optim.AdamW)
        assert {group["lr"] for group in optimizer.param_groups} == {rate}
        assert {group["weight_decay"] for group in optimizer.param_groups} == {0, 0.05}
        moved = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        assert moved == total
    scores = wrapper["alpha"].optimizer
    assert isinstance(scores, torch.optim.AdamW)
    for group in scores.param_groups:
        assert (group["lr"], group["weight_decay"]) == (rate, 0)

    lagrangian = wrapper.lagrangian
    assert (lagrangian.lam, lagrangian.beta) == (1.0, 0.1)
    # All scores are 1 before the search: gamma times their number.
    assert float(wrapper.penalty()) == pytest.approx(1e-4 * 18_048)


def test_the_coco_search_starts_from_the_published_detector_only():
    cfg = Config.fromfile(CONFIGS / "sidt_swin_t_coco.py")
    url = "https://github.com/SwinTransformer/storage/releases/download/v1.0.2/"
    assert f"{url}{Path(cfg.load_from).name}" in cfg.how_to_get[cfg.load_from]
    # No ImageNet weights are fetched first: they would be overwritten at once.
    assert cfg.model.architecture.backbone.init_cfg is None
    base = Config.fromfile(CONFIGS / "_base_/cascade-mask-rcnn_swin-t_4conv1f_coco.py")
    assert base.model.backbone.init_cfg.type == "Pretrained"
    assert set(base.how_to_get) < set(cfg.how_to_get)
    assert {hook.type for hook in base.custom_hooks} < {hook.type for hook in cfg.custom_hooks}


@pytest.mark.parametrize("name", ["sidt_swin_t_coco.py", "sidt_swin_t_cifar100.py"])
def test_a_search_config_survives_being_written(name, tmp_path):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py").to_dict() == cfg.to_dict()
