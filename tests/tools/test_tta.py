"""``tools/test.py --tta``, for detectors and classifiers, pruned models and searches; without test data."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from rarts_mm.apis import read_config
from rarts_mm.apis.configs import prepare_registries
from tests.conftest import ROOT, run_tool

CLASSIFIER = """
default_scope = "mmpretrain"
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)
architecture = dict(
    type="ImageClassifier",
    backbone=dict(type="rarts_mm.PreResNet", depth=20, base_channels=8),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=2, in_channels=128),
)
model = dict(type="rarts_mm.SearchModel", architecture=architecture)
data_preprocessor = dict(num_classes=2, mean=[120.0] * 3, std=[60.0] * 3)
optim_wrapper = dict(
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1)),
)
train_cfg = dict(type="rarts_mm.SearchLoop", max_epochs=1)
test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CustomDataset", data_root="{data}", pipeline=[
        dict(type="LoadImageFromFile"), dict(type="Resize", scale=16), dict(type="PackInputs"),
    ]),
)
train_dataloader = test_dataloader
test_cfg = dict(type="TestLoop")
test_evaluator = dict(type="Accuracy", topk=(1,))
"""


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Config and checkpoint of a search that classifies four images."""
    folder = tmp_path_factory.mktemp("classifier")
    generator = np.random.default_rng(0)
    for number, name in enumerate("aabb"):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
        image = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "data" / name / f"{number}.png"), image)
    config = folder / "search.py"
    config.write_text(CLASSIFIER.format(data=folder / "data"))
    cfg = read_config(config)
    prepare_registries(cfg)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    checkpoint = folder / "iter_1.pth"
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return config, checkpoint


@pytest.mark.slow
def test_a_classifier_averages_an_image_and_its_mirror_image(classifier, tmp_path):
    config, checkpoint = classifier
    pruned = tmp_path / "pruned"
    status, _, err = run_tool("prune", config, checkpoint, *RATIO, "--out", pruned)
    assert status == 0, err
    for model in ((config, checkpoint), (pruned / "pruned.py", pruned / "pruned.pth")):
        found = {}
        for name, more in {
            "plain": [],
            "tta": ["--tta"],
            "mirrored": ["--cfg-options", "mirrored=True"],
        }.items():
            path = model[0]
            if name == "mirrored":
                path = path.with_name("mirrored.py")
                path.write_text(
                    f"_base_ = {str(model[0])!r}\n"
                    "pipeline = _base_.test_dataloader.dataset.pipeline\n"
                    "pipeline.insert(-1, dict(type='RandomFlip', prob=1.0))\n"
                    "test_dataloader = dict(dataset=dict(pipeline=pipeline))\n"
                )
                more = []
            out = tmp_path / f"{name}.pkl"
            arguments = ["--work-dir", tmp_path / "run", "--out", out, *more]
            status, said, err = run_tool("test", path, model[1], *arguments)
            assert status == 0, err
            found[name] = torch.stack(scores_in(out))
            assert ("no tta_model" in said) == (name == "tta")
        torch.testing.assert_close(found["tta"], (found["plain"] + found["mirrored"]) / 2)
        assert not torch.allclose(found["tta"], found["plain"], atol=1e-7)


def scores_in(path):
    import pickle

    return [each["pred_score"] for each in pickle.loads(path.read_bytes())]


RATIO = ["--ratio", "0.4", "--criterion", "magnitude"]
BOXES = ["--cfg-options", "test_evaluator.metric=bbox"]


def test_a_detector_merges_boxes(search_copy, small_config, tmp_path):
    status, out, err = run_tool(
        "test", small_config, search_copy, "--work-dir", tmp_path / "run", "--tta", *BOXES
    )
    assert status == 0, err
    assert "DetTTAModel" in out
    metrics = json.loads(next((tmp_path / "run").glob("*/*.json")).read_text())
    assert "coco/bbox_mAP" in metrics


@pytest.mark.slow
def test_a_pruned_detector_too(search_copy, tmp_path):
    pruned = tmp_path / "pruned"
    config = next(search_copy.glob("*.py"))
    status, _, err = run_tool("prune", config, search_copy / "epoch_2.pth", *RATIO, "--out", pruned)
    assert status == 0, err
    arguments = [pruned / "pruned.py", pruned / "pruned.pth", "--work-dir", tmp_path / "run"]
    status, out, err = run_tool("test", *arguments, "--tta", *BOXES)
    assert status == 0, err
    assert "DetTTAModel" in out
    metrics = json.loads(next((tmp_path / "run").glob("*/*.json")).read_text())
    assert 0 <= metrics["coco/bbox_mAP"] <= 1


@pytest.mark.slow
def test_two_processes_find_what_one_finds(classifier, tmp_path):
    config, checkpoint = classifier
    found = {}
    for number in (1, 2):
        out = tmp_path / f"{number}.pkl"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [
                *(
                    *launch,
                    f"--nproc_per_node={number}",
                    ROOT / "tools/test.py",
                    config,
                    checkpoint,
                ),
                *("--launcher", "pytorch", "--tta", "--out", out, "--work-dir", tmp_path / "run"),
            ],
            capture_output=True,
            text=True,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[number] = torch.stack(scores_in(out))
    assert found[1].shape == (4, 2)
    torch.testing.assert_close(found[2], found[1])


def test_masks_cannot_be_merged(search_copy, small_config, tmp_path):
    status, _, err = run_tool(
        "test", small_config, search_copy, "--work-dir", tmp_path / "run", "--tta"
    )
    assert status == 2
    assert "merges boxes, no masks" in err


def test_the_configs_own_model_and_pipeline_are_taken(classifier, tmp_path):
    config = tmp_path / "own.py"
    config.write_text(
        f"_base_ = {str(classifier[0])!r}\n"
        "tta_model = dict(type='AverageClsScoreTTA')\n"
        "tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=[\n"
        "    [dict(type='Resize', scale=16), dict(type='Resize', scale=24)],\n"
        "    [dict(type='PackInputs')]])]\n"
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))\n"
    )
    arguments = [config, classifier[1], "--work-dir", tmp_path / "run", "--tta"]
    status, out, err = run_tool("test", *arguments)
    assert status == 0, err
    assert "--tta" not in out
    for line in ("del tta_model", "tta_model = None"):
        config.write_text(config.read_text() + f"{line}\n")
    status, _, err = run_tool("test", *arguments)
    assert status == 2
    assert "write both into the config" in err


@pytest.mark.parametrize("absent", ["test_dataloader", "test_evaluator", "test_cfg", "all"])
def test_without_test_data_is_one_sentence(classifier, tmp_path, absent):
    config = tmp_path / "without.py"
    keys = ["test_dataloader", "test_evaluator", "test_cfg"] if absent == "all" else [absent]
    text = "".join(f"{key} = None\n" for key in keys)
    config.write_text(f"_base_ = {str(classifier[0])!r}\n{text}")
    for more in ([], ["--tta"], ["--show-dir", tmp_path / "pictures"]):
        status, _, err = run_tool(
            "test", config, classifier[1], *more, "--work-dir", tmp_path / "w"
        )
        assert status == 2, err
        assert f"no {keys[0]}" in err
        assert "Traceback" not in err
    status, _, err = run_tool("compress", config, "--ratio", "0.4", "--work-dir", tmp_path / "c")
    assert status == 2, err
    assert f"no {keys[0]}" in err
    assert not (tmp_path / "c").exists()
    if absent != "all":
        status, _, err = run_tool("train", config, "--work-dir", tmp_path / "t")
        assert status == 2, err
        assert f"without {keys[0]}" in err
        assert not (tmp_path / "t").exists()
    # A pruning needs none.
    out = tmp_path / "pruned"
    status, _, err = run_tool("prune", config, classifier[1], *RATIO, "--out", out)
    assert status == 0, err
