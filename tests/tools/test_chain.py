"""Search, prune, fine-tune, test: as a user runs them, on a small model and data set."""

import json
import subprocess
import sys
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmengine.config import Config

from rarts_mm.locks import locked
from tests.conftest import run_tool


@pytest.fixture(scope="module")
def pruned(search_run, tmp_path_factory):
    """The small search pruned at 40 %."""
    out = tmp_path_factory.mktemp("pruned") / "p40"
    config = next(search_run.glob("*.py"))
    status, text, err = run_tool(
        "prune", config, search_run / "epoch_2.pth", "--ratio", "0.4", "--out", out
    )
    assert status == 0, err
    return out, text


def scalars(work_dir: Path) -> list[dict]:
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_search_logs_the_lagrangian_and_the_scores(search_run):
    lines = [line for line in scalars(search_run) if "lagrangian" in line]
    assert lines
    for line in lines:
        terms = line["loss_primary"] + line["loss_auxiliary"] + line["coupling"] + line["penalty"]
        # The logged losses are means over a window, the Lagrangian is of one step: same magnitude.
        assert line["lagrangian"] == pytest.approx(terms, rel=0.5)
        assert line["coupling"] == pytest.approx(0.5 * 0.1 * line["distance_uw"] ** 2, rel=1e-4)
    assert any("score/q50" in line for line in scalars(search_run))
    pictures = list(search_run.glob("*/vis_data/vis_image/scores_*.png"))
    assert len(pictures) == 2


def test_search_moved_alpha_and_both_networks(search_run):
    state = torch.load(search_run / "epoch_2.pth", weights_only=False)["state_dict"]
    alphas = [v for k, v in state.items() if k.startswith("alpha.")]
    # Five blocks, each with an attention and an MLP.
    assert len(alphas) == 10
    assert all((a != 1).any() for a in alphas)
    key = "backbone.stages.0.blocks.0.attn.w_msa.qkv.weight"
    assert not torch.equal(state[f"auxiliary.{key}"], state[f"primary.{key}"])


def test_checkpoint_records_the_split(search_run):
    split = torch.load(search_run / "epoch_2.pth", weights_only=False)["rarts_mm"]["split"]
    assert split["lengths"] == {"primary": 12, "auxiliary": 12}
    assert split["seed"] == 0


def test_prune_writes_what_it_says(pruned):
    folder, text = pruned
    assert sorted(p.name for p in folder.iterdir()) == [
        "pruned.pth",
        "pruned.py",
        "widths.json",
        "widths.png",
    ]
    record = json.loads((folder / "widths.json").read_text())
    assert record["removed"] == round(0.4 * record["scores"])
    assert record["proof"]["error"] <= 1e-10
    for unit in record["units"].values():
        assert unit["kept"] == sorted(set(unit["kept"]))
        assert 1 <= len(unit["kept"]) <= unit["size"]
    for word in ("parameters", "FLOPs", "backbone.stages", "pruned part", "float64"):
        assert word in text
    assert (folder / "widths.png").read_bytes().startswith(b"\x89PNG")


def test_pruned_config_is_self_contained_and_keeps_the_backbone(pruned):
    folder, _ = pruned
    assert "_base_" not in (folder / "pruned.py").read_text()
    cfg = Config.fromfile(folder / "pruned.py")
    assert cfg.model.of == "CascadeRCNN"
    assert cfg.model.backbone.type == "SwinTransformer"
    assert Path(cfg.load_from) == folder / "pruned.pth"
    assert "SearchLoop" not in cfg.pretty_text
    assert "LagrangianHook" not in cfg.pretty_text


def test_fine_tune_then_test(pruned, tmp_path):
    folder, _ = pruned
    status, _, err = run_tool("train", folder / "pruned.py", "--work-dir", tmp_path / "tuned")
    assert status == 0, err
    checkpoint = tmp_path / "tuned" / "epoch_1.pth"
    tuned = torch.load(checkpoint, weights_only=False)["state_dict"]
    before = torch.load(folder / "pruned.pth", weights_only=False)["state_dict"]
    assert {k: v.shape for k, v in tuned.items()} == {k: v.shape for k, v in before.items()}
    # Warm start: after a few steps the weights are still near those of the search.
    key = "backbone.stages.3.blocks.0.ffn.layers.0.0.weight"
    assert 0 < (tuned[key] - before[key]).norm() < before[key].norm()
    status, _, err = run_tool(
        "test", folder / "pruned.py", checkpoint, "--work-dir", tmp_path / "t"
    )
    assert status == 0, err


def test_mmdetections_own_apis_and_tools(pruned, tmp_path, shapes):
    from mmdet.apis import inference_detector, init_detector

    folder, _ = pruned
    model = init_detector(str(folder / "pruned.py"), str(folder / "pruned.pth"), device="cpu")
    assert type(model).__name__ == "CascadeRCNN"
    image = np.random.default_rng(0).integers(0, 255, (51, 70, 3), dtype=np.uint8)
    result = inference_detector(model, image)
    assert result.pred_instances.bboxes.shape[-1] == 4
    stock = Path(mmdet.__file__).parent / ".mim" / "tools" / "test.py"
    files = (folder / "pruned.py", folder / "pruned.pth")
    run = subprocess.run(
        [sys.executable, stock, *files, "--work-dir", tmp_path / "stock"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    assert "coco/bbox_mAP" in run.stdout + run.stderr


@pytest.mark.slow
def test_several_ratios_from_one_search(search_copy):
    config = next(search_copy.glob("*.py"))
    status, _, err = run_tool(
        "prune", config, search_copy / "epoch_2.pth", "--ratio", "0.2", "0.6", "--keep", "mean"
    )
    assert status == 0, err
    sizes = []
    for name in ("pruned_20", "pruned_60"):
        state = torch.load(search_copy / name / "pruned.pth", weights_only=False)["state_dict"]
        sizes.append(sum(v.numel() for v in state.values()))
    assert sizes[0] > sizes[1]


def test_without_arguments_the_newest_search_is_pruned(search_copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work_dirs").mkdir()
    search_copy.rename(tmp_path / "work_dirs" / "mine")
    status, text, err = run_tool("prune", "--ratio", "0.4")
    assert status == 0, err
    assert "newest search: work_dirs/mine/small_search.py, work_dirs/mine/epoch_2.pth" in text
    assert (tmp_path / "work_dirs" / "mine" / "pruned_40" / "pruned.py").is_file()


@pytest.mark.slow
def test_keep_chooses_the_weights(search_run, tmp_path):
    config, checkpoint = next(search_run.glob("*.py")), search_run / "epoch_2.pth"
    state = torch.load(checkpoint, weights_only=False)["state_dict"]
    key = "neck.fpn_convs.0.conv.weight"
    w, u = state[f"auxiliary.{key}"], state[f"primary.{key}"]
    for keep, wanted in (("auxiliary", w), ("primary", u), ("mean", (w + u) / 2)):
        out = tmp_path / keep
        arguments = ("--ratio", "0.4", "--out", out, "--keep", keep)
        status, _, err = run_tool("prune", config, checkpoint, *arguments)
        assert status == 0, err
        found = torch.load(out / "pruned.pth", weights_only=False)["state_dict"][key]
        assert torch.equal(found, wanted)


@pytest.mark.slow
def test_curve_evaluates_the_masked_network(search_copy):
    config = next(search_copy.glob("*.py"))
    command = ("prune", config, search_copy / "epoch_2.pth", "--curve")
    with locked(search_copy / "curve"):
        status, _, err = run_tool(*command)
        assert status == 2
        assert "is in use" in err
    status, _, err = run_tool(*command)
    assert status == 0, err
    rows = json.loads((search_copy / "curve.json").read_text())["rows"]
    assert [row["ratio"] for row in rows] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert all(0 <= row["box AP"] <= 1 for row in rows)
    assert [row["parameters"] for row in rows] == sorted(r["parameters"] for r in rows)[::-1]
    assert (search_copy / "curve.png").is_file()
    assert not (search_copy / "pruned_40").exists()


def test_search_config_can_be_tested_like_any_other(search_run, tmp_path):
    config = next(search_run.glob("*.py"))
    arguments = ("--work-dir", tmp_path / "t")
    status, _, err = run_tool("test", config, search_run / "epoch_2.pth", *arguments)
    assert status == 0, err
