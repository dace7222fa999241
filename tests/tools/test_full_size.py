"""Swin-T at full size through the pruning command, with random scores."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from rarts_mm.apis.configs import prepare_registries
from tests.conftest import CONFIGS, run_tool


def random_search(config: str, folder) -> tuple:
    """A checkpoint as a search of ``config`` writes it, weights and scores random."""
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIGS / config)
    prepare_registries(cfg)
    model_cfg = dict(cfg.model, networks=1)
    if "data_preprocessor" in cfg:
        model_cfg["data_preprocessor"] = cfg.data_preprocessor
    model = MODELS.build(model_cfg)
    for alpha in model.alpha_parameters().values():
        alpha.data.normal_()
    path = folder / "random.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    return CONFIGS / config, path


def costs(folder) -> dict[str, dict]:
    rows = json.loads((folder / "widths.json").read_text())["costs"]["rows"]
    return {row["name"]: row for row in rows}


@pytest.mark.slow
def test_cascade_mask_rcnn_swin_t(tmp_path):
    config, checkpoint = random_search("sidt_swin_t_coco.py", tmp_path)
    status, text, err = run_tool("prune", config, checkpoint, "--ratio", "0.2", "0.4")
    assert status == 0, err
    for name, expected in (("pruned_20", 22.3e6), ("pruned_40", 17.2e6)):
        backbone = costs(tmp_path / name)["backbone"]
        assert backbone["parameters_before"] == 27_520_698
        assert abs(backbone["parameters_after"] - expected) <= 0.9e6
        whole = costs(tmp_path / name)["whole model"]
        assert whole["parameters_before"] == 85_629_804
        assert whole["flops_before"] == pytest.approx(745e9, rel=0.01)
    assert "a small part" in text


@pytest.mark.slow
def test_swin_t_cifar100_all_four_ratios(tmp_path):
    config, checkpoint = random_search("sidt_swin_t_cifar100.py", tmp_path)
    ratios = ("0.2", "0.4", "0.6", "0.8")
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", *ratios)
    assert status == 0, err
    sizes = []
    for ratio in ratios:
        whole = costs(tmp_path / f"pruned_{100 * float(ratio):g}")["whole model"]
        assert whole["parameters_before"] == 27_596_254
        assert whole["flops_before"] == pytest.approx(4.49e9, rel=0.005)
        sizes.append(whole["parameters_after"])
    assert sizes == sorted(sizes, reverse=True)
