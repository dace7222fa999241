"""Bad input through the command lines: an error that names value, reason and remedy."""

import json
import re
import shutil

import pytest
import torch

from tests.conftest import CONFIGS, run_tool


def files_under(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("ratio", ["0", "1", "-0.2", "40", "nan", "forty"])
def test_ratio_outside_its_range(search_copy, ratio):
    before = files_under(search_copy)
    config = next(search_copy.glob("*.py"))
    # "=" as a negative number would look like an option.
    arguments = [f"--ratio={ratio}"] if ratio.startswith("-") else ["--ratio", ratio]
    status, _, err = run_tool("prune", config, search_copy / "epoch_2.pth", *arguments)
    assert status == 2
    assert ratio in err
    assert "0.4" in err
    assert files_under(search_copy) == before


def prune_error(config, checkpoint, *more):
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.4", *more)
    assert status == 2, err
    return err


def test_missing_checkpoint(search_copy):
    err = prune_error(next(search_copy.glob("*.py")), search_copy / "epoch_9.pth")
    assert "epoch_9.pth does not exist" in err


def test_truncated_checkpoint(search_copy):
    checkpoint = search_copy / "epoch_2.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100_000])
    err = prune_error(next(search_copy.glob("*.py")), checkpoint)
    assert "cannot be read" in err
    assert "truncated" in err


def test_checkpoint_of_another_model(search_copy):
    checkpoint = search_copy / "epoch_2.pth"
    content = torch.load(checkpoint, weights_only=False)
    content["state_dict"]["auxiliary.backbone.patch_embed.projection.weight"] = torch.zeros(2, 2)
    torch.save(content, checkpoint)
    err = prune_error(next(search_copy.glob("*.py")), checkpoint)
    assert "another model" in err
    assert "patch_embed.projection" in err


def test_plain_config(search_copy):
    config = CONFIGS / "_base_" / "cascade-mask-rcnn_swin-micro_shapes.py"
    err = prune_error(config, search_copy / "epoch_2.pth")
    assert "no search config" in err
    assert "your-own-config" in err


def test_out_folder_with_other_files(search_copy, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    err = prune_error(
        next(search_copy.glob("*.py")), search_copy / "epoch_2.pth", "--out", tmp_path / "out"
    )
    assert "holds other files" in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_out_folder_with_another_pruning_and_with_the_same(search_copy):
    config, checkpoint = next(search_copy.glob("*.py")), search_copy / "epoch_2.pth"
    out = search_copy / "out"
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.4", "--out", out)
    assert status == 0, err
    before = files_under(out)
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.2", "--out", out)
    assert status == 2
    assert "another pruning (--ratio 0.4)" in err
    assert files_under(out) == before
    # The same pruning again is no conflict.
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.4", "--out", out)
    assert status == 0, err


@pytest.mark.slow
def test_pruned_checkpoint_in_a_config_of_other_widths(search_copy, tmp_path):
    """An error from the sliced layers themselves, so that stock tools raise it too."""
    from mmdet.apis import init_detector

    config, checkpoint = next(search_copy.glob("*.py")), search_copy / "epoch_2.pth"
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.2", "0.4")
    assert status == 0, err
    wrong = search_copy / "pruned_20" / "pruned.py", search_copy / "pruned_40" / "pruned.pth"
    with pytest.raises(RuntimeError, match=r"backbone\.stages.*different prunings"):
        init_detector(*map(str, wrong), device="cpu")
    status, _, err = run_tool("test", *wrong, "--work-dir", tmp_path / "t")
    assert status == 2
    assert "does not fit" in err
    status, _, err = run_tool(
        "train",
        wrong[0],
        *("--work-dir", tmp_path / "w", "--cfg-options", f"load_from={wrong[1]}"),
    )
    assert status == 1
    assert "different prunings" in err


def train_error(config, work_dir, *options):
    status, _, err = run_tool("train", config, "--work-dir", work_dir, *options)
    assert status == 2, err
    return err


def test_missing_config(tmp_path):
    assert "does not exist" in train_error(tmp_path / "no.py", tmp_path / "w")


def test_missing_data_and_checkpoint_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    err = train_error(CONFIGS / "sidt_swin_t_coco.py", tmp_path / "w")
    assert "data/coco" in err
    assert "cascade_mask_rcnn_swin_tiny_patch4_window7.pth" in err
    assert "https://" in err
    assert not (tmp_path / "w").exists()


def test_config_with_nothing_to_score(small_config, tmp_path):
    config = tmp_path / "nothing.py"
    config.write_text(
        f"_base_ = '{small_config}'\n"
        "model = dict(architecture=dict(backbone=dict(_delete_=True, type='CSPDarknet')))\n"
    )
    err = train_error(config, tmp_path / "w")
    assert "nothing to score" in err
    assert "WindowMSA" in err


def test_work_dir_that_holds_another_run(small_config, search_copy):
    before = files_under(search_copy)
    err = train_error(small_config, search_copy)
    assert "holds another run" in err
    assert "--resume" in err
    assert files_under(search_copy) == before


def test_half_too_small_for_a_batch(small_config, tmp_path):
    err = train_error(small_config, tmp_path / "w", "--cfg-options", "train_cfg.split.ratio=0.9")
    assert "auxiliary half is too small for a batch: it has 2 samples" in err
    assert "batch size" in err


def test_split_outside_its_range(small_config, tmp_path):
    err = train_error(small_config, tmp_path / "w", "--cfg-options", "train_cfg.split.ratio=1.5")
    assert "1.5" in err


def test_unknown_unit_in_include(small_config, tmp_path):
    config = tmp_path / "include.py"
    config.write_text(
        f"_base_ = '{small_config}'\n"
        "model = dict(space=dict(type='WidthSpace', include='backbone.stage'))\n"
    )
    err = train_error(config, tmp_path / "w")
    assert "backbone.stages" in err


def test_nan_loss_stops_the_run_and_overwrites_nothing(small_config, search_copy):
    """The loss overflows after resuming: the last good checkpoint stays the last."""
    before = files_under(search_copy)
    status, _, err = run_tool(
        "train",
        small_config,
        *("--work-dir", search_copy, "--resume", "--cfg-options", "train_cfg.max_epochs=3"),
        "optim_wrapper.lam=1e39",
    )
    assert status == 1
    assert "epoch 3, iteration" in err
    assert "epoch_2.pth" in err
    after = files_under(search_copy)
    kept = [p for p in before if p.suffix == ".pth" or p.name == "last_checkpoint"]
    assert len(kept) == 3
    assert all(after[p] == before[p] for p in kept)
    assert not (search_copy / "epoch_3.pth").exists()


def test_resume_with_another_split(small_config, search_copy):
    err = train_error(
        small_config,
        search_copy,
        *("--resume", "--cfg-options", "train_cfg.max_epochs=3", "train_cfg.split.seed=1"),
    )
    assert "seed was 0, is 1" in err


def test_auto_scale_lr_scales_the_weights_alone(small_config):
    from rarts_mm.apis import training_config
    from rarts_mm.apis.configs import scale_learning_rate

    # Alpha's optimiser is given in the config, or taken over from the weights' as it was.
    for options, alpha_lr in (({}, 2e-2), ({"optim_wrapper.alpha": None}, 2e-3)):
        cfg = training_config(small_config, auto_scale_lr=True, options=options)
        assert scale_learning_rate(cfg, world_size=4) == pytest.approx(2.0)
        assert cfg.optim_wrapper.weights.optimizer.lr == pytest.approx(4e-3)
        assert cfg.optim_wrapper.alpha.optimizer.lr == pytest.approx(alpha_lr)
        assert cfg.optim_wrapper.alpha.optimizer.weight_decay == 0
        assert not cfg.auto_scale_lr.enable


def test_copy_of_a_run_without_checkpoints_is_no_search(search_copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "work_dirs" / "empty"
    shutil.copytree(search_copy, target, ignore=shutil.ignore_patterns("*.pth"))
    (target / "last_checkpoint").unlink()
    status, _, err = run_tool("prune", "--ratio", "0.4")
    assert status == 2
    assert "no search with a checkpoint" in err


def test_broken_record_is_not_written_over(search_copy):
    out = search_copy / "out"
    out.mkdir()
    (out / "widths.json").write_text(json.dumps({"source": {}})[:-3])
    err = prune_error(next(search_copy.glob("*.py")), search_copy / "epoch_2.pth", "--out", out)
    assert "holds other files" in err


@pytest.mark.slow
def test_pruned_checkpoint_as_the_start_of_the_search_it_came_from(
    small_config, search_copy, tmp_path
):
    """Its narrower layers would keep random weights, and MMEngine only warn."""
    config, checkpoint = next(search_copy.glob("*.py")), search_copy / "epoch_2.pth"
    status, _, err = run_tool("prune", config, checkpoint, "--ratio", "0.6")
    assert status == 0, err
    start = f"load_from={search_copy / 'pruned_60' / 'pruned.pth'}"
    status, _, err = run_tool(
        "train", small_config, "--work-dir", tmp_path / "w", "--cfg-options", start
    )
    assert status == 1
    assert "scored layers would keep random weights" in err
    assert "not pruned" in err


def test_search_checkpoint_in_a_plain_config(search_copy, shapes, tmp_path):
    config = tmp_path / "plain.py"
    config.write_text(
        f"_base_ = '{CONFIGS}/_base_/cascade-mask-rcnn_swin-micro_shapes.py'\n"
        f"train_dataloader = dict(dataset=dict(data_root='{shapes}'))\n"
        f"val_dataloader = dict(dataset=dict(data_root='{shapes}'))\n"
        "test_dataloader = val_dataloader\n"
        f"val_evaluator = dict(ann_file='{shapes}/annotations/val.json')\n"
        "test_evaluator = val_evaluator\n"
    )
    checkpoint = search_copy / "epoch_2.pth"
    err = train_error(config, tmp_path / "w", "--cfg-options", f"load_from={checkpoint}")
    assert "one of a search" in err
    assert "tools/prune.py" in err
    status, _, err = run_tool("test", config, checkpoint, "--work-dir", tmp_path / "t")
    assert status == 2
    assert "one of a search" in err


def test_resume_from_weights_alone(small_config, search_copy, tmp_path):
    content = torch.load(search_copy / "epoch_2.pth", weights_only=False)
    torch.save({"state_dict": content["state_dict"], "meta": {}}, tmp_path / "weights.pth")
    err = train_error(small_config, tmp_path / "w", "--resume", tmp_path / "weights.pth")
    assert "no training state" in err
    assert "load_from" in err
    err = train_error(small_config, tmp_path / "w2", "--resume", tmp_path / "no.pth")
    assert "checkpoint (--resume)" in err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optim_wraper.beta=0.5", "did you mean 'optim_wrapper'"),
        (
            "optim_wrapper.betta=0.5",
            "unknown key optim_wrapper.betta of RARTSOptimWrapper; did you mean 'beta'",
        ),
        ("train_cfg.max_epoch=1", "max_epoch"),
        ("beta", "KEY=VALUE"),
        ("..=1", "no key of a config"),
        ("model.class=1", "no key of a config"),
    ],
)
def test_misspelt_options(small_config, tmp_path, option, message):
    err = train_error(small_config, tmp_path / "w", "--cfg-options", option)
    assert message in err
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_written(search_copy, tmp_path):
    (tmp_path / "file").write_text("")
    config, checkpoint = next(search_copy.glob("*.py")), search_copy / "epoch_2.pth"
    err = prune_error(config, checkpoint, "--out", tmp_path / "file" / "out")
    assert str(tmp_path / "file") in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("train_cfg.max_epochs=0", r"max_epochs=0 must be a whole number >= 1"),
        ("train_cfg.max_epochs=abc", r"max_epochs='abc' must be a whole number"),
        ("optim_wrapper.penalty.type=LatencyPenalty", r"LatencyPenalty\) needs latencies: give"),
        (
            "model.space.type=Foo",
            r"model\.space\.type='Foo' is no .* space; known are .*'WidthSpace'",
        ),
        ("model.space.include=foo", r"'foo'"),
        ("load_from={file}", r"cannot be read: .*no checkpoint; take"),
    ],
)
def test_other_bad_values_are_one_line(small_config, tmp_path, option, words):
    file = tmp_path / "README.md"
    file.write_text("# No checkpoint\n")
    arguments = ("--work-dir", tmp_path / "run", "--cfg-options", option.format(file=file))
    status, _, err = run_tool("train", small_config, *arguments)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error")]
    assert re.search(words, line)
    assert "Traceback" not in err
