"""Fine-tuning with a teacher, and testing with recomputed statistics, through the command lines."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from rarts_mm.apis import UsageError, read_config
from rarts_mm.apis.configs import plain_config, prepare_registries
from rarts_mm.apis.distill import distill_config
from rarts_mm.apis.train import train, training_config
from rarts_mm.datasets import make_digits
from rarts_mm.engine import RecomputeStatisticsHook
from rarts_mm.files import write_text
from tests.conftest import CONFIGS, forget_runs, run_tool

WIDTHS = {"backbone.stages.0.blocks.0.attn.w_msa": 3, "backbone.stages.1.blocks.0.ffn": 50}


def built(cfg: Config, seed: int) -> nn.Module:
    """The model of a config as the Runner builds it."""
    prepare_registries(cfg)
    model = copy.deepcopy(cfg.model)
    if cfg.get("data_preprocessor") is not None:
        model.setdefault("data_preprocessor", cfg.data_preprocessor)
    torch.manual_seed(seed)
    network = MODELS.build(model)
    network.init_weights()
    return network


def write(folder: Path, name: str, cfg: Config, seed: int) -> None:
    """``name.py`` and random weights ``name.pth`` for it."""
    write_text(folder / f"{name}.py", cfg.pretty_text)
    torch.save(dict(meta={}, state_dict=built(cfg, seed).state_dict()), folder / f"{name}.pth")


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """A folder with ``teacher.py``, ``pruned.py`` and their weights, for two epochs of 200 digits."""
    root = tmp_path_factory.mktemp("distill")
    make_digits(root / "digits")
    cfg = Config.fromfile(CONFIGS / "_base_" / "swin-micro_digits.py")
    for split in ("train", "val", "test"):
        cfg[f"{split}_dataloader"].dataset.update(data_root=str(root / "digits"), indices=200)
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    cfg.param_scheduler[0].end = 2
    cfg.default_hooks.checkpoint.interval = 1
    cfg.randomness = dict(seed=0, deterministic=True)
    cfg.how_to_get = {}
    write(root, "teacher", cfg, seed=1)
    cfg.model = dict(cfg.model, type="rarts_mm.PrunedModel", of=cfg.model.type, widths=WIDTHS)
    cfg.load_from = "{{ fileDirname }}/pruned.pth"
    cfg.work_dir = "{{ fileDirname }}/finetune"
    write(root, "pruned", cfg, seed=2)
    return root


def distill(folder: Path, **settings) -> Config:
    return distill_config(
        Config.fromfile(folder / "pruned.py"),
        folder / "teacher.py",
        folder / "teacher.pth",
        settings,
    )


@pytest.fixture(scope="module")
def run(digits) -> Path:
    """The folder again, with ``distill.py`` trained for two epochs."""
    cfg = distill(digits)
    assert cfg.work_dir == str(digits / "distill")
    write_text(digits / "distill.py", cfg.pretty_text)
    status, _, err = run_tool("train", digits / "distill.py")
    assert status == 0, err
    return digits


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=False)["state_dict"]


def test_the_checkpoint_is_a_plain_models(run, capfd, tmp_path):
    trained = weights(run / "distill" / "epoch_2.pth")
    start = weights(run / "pruned.pth")
    assert trained.keys() == start.keys()
    assert sum(not torch.equal(trained[k], start[k]) for k in start) > 20
    plain = built(read_config(run / "pruned.py"), seed=3)
    plain.load_state_dict(trained, strict=True)
    found = []
    for name in ("pruned", "distill"):
        runner = runner_of(run / f"{name}.py", run / "distill" / "epoch_2.pth", tmp_path / name)
        found.append(runner.test())
    assert found[0] == found[1]
    status, _, err = run_tool(
        "test", run / "pruned.py", run / "distill" / "epoch_2.pth", "--work-dir", tmp_path / "tool"
    )
    assert status == 0, err


def runner_of(config: Path, checkpoint: Path, work_dir: Path, **more) -> Runner:
    forget_runs()
    cfg = read_config(config)
    prepare_registries(cfg)
    cfg.update(load_from=str(checkpoint), work_dir=str(work_dir), **more)
    return Runner.from_cfg(cfg)


def test_training_goes_on_where_it_stopped(run, tmp_path):
    status, _, err = run_tool(
        *("train", run / "distill.py", "--work-dir", tmp_path),
        *("--resume", run / "distill" / "epoch_1.pth"),
    )
    assert status == 0, err
    expected, found = (weights(d / "epoch_2.pth") for d in (run / "distill", tmp_path))
    assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_without_weight_it_is_the_training_of_the_pruned_model(run, tmp_path):
    options = ("--cfg-options", "model.kd_weight=0.0")
    for name, more in (("distill", options), ("pruned", ())):
        work_dir = ("--work-dir", tmp_path / name)
        status, _, err = run_tool("train", run / f"{name}.py", *work_dir, *more)
        assert status == 0, err
    plain, without = (weights(tmp_path / n / "epoch_2.pth") for n in ("pruned", "distill"))
    distilled = weights(run / "distill" / "epoch_2.pth")
    assert all(torch.equal(plain[k], without[k]) for k in plain)
    assert not torch.equal(plain["head.fc.weight"], distilled["head.fc.weight"])


class _Path(Hook):
    """Keeps the weights after every step."""

    def __init__(self) -> None:
        self.weights = []

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self.weights.append({k: v.clone() for k, v in runner.model.state_dict().items()})


@pytest.mark.parametrize("name", ["pruned", "distill"])
def test_averaged_weights_and_checkpointed_activations(run, tmp_path, name):
    forget_runs()
    cfg = training_config(
        run / f"{name}.py",
        work_dir=str(tmp_path / name),
        options={
            "custom_hooks": [dict(type="EMAHook", momentum=0.3)],
            "activation_checkpointing": ["backbone.stages.0.blocks.0"],
            "train_cfg.max_epochs": 1,
            "param_scheduler": [],
        },
    )
    prepare_registries(cfg)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(hook := _Path(), priority="HIGHEST")
    runner.train()
    expected = hook.weights[0]
    for step in hook.weights[1:]:
        expected = {
            k: v + 0.3 * (step[k] - v) for k, v in expected.items() if v.is_floating_point()
        }
    saved = torch.load(tmp_path / name / "epoch_1.pth", weights_only=False)
    assert len(hook.weights) == 4
    for key, value in expected.items():
        torch.testing.assert_close(saved["state_dict"][key], value, rtol=1e-5, atol=1e-7)
        assert torch.equal(saved["ema_state_dict"][f"module.{key}"], hook.weights[-1][key])
    assert saved["state_dict"].keys() == weights(run / "pruned.pth").keys()
    built(read_config(run / "pruned.py"), seed=3).load_state_dict(saved["state_dict"], strict=True)
    # The same steps as with activations kept and nothing averaged.
    plain = training_config(
        run / f"{name}.py",
        work_dir=str(tmp_path / "kept"),
        options={"train_cfg.max_epochs": 1, "param_scheduler": []},
    )
    forget_runs()
    kept = train(plain).model.state_dict()
    for key, value in hook.weights[-1].items():
        torch.testing.assert_close(value, kept[key], rtol=1e-5, atol=1e-7)


def test_options_of_the_wrapper(digits):
    cfg = distill(digits, task_weight=0.1, kd_weight=14.4)
    assert (cfg.model.task_weight, cfg.model.kd_weight, cfg.model.temperature) == (0.1, 14.4, 4.0)
    with pytest.raises(UsageError, match="unexpected keyword argument 'cls_weight'"):
        distill(digits, cls_weight=1.0)


def test_a_search_config_names_its_architecture_as_teacher(digits, tmp_path):
    search = tmp_path / "search.py"
    search.write_text(f'_base_ = "{CONFIGS / "sidt_swin_micro_digits.py"}"')
    cfg = distill_config(Config.fromfile(digits / "pruned.py"), search, digits / "teacher.pth")
    assert cfg.model.teacher.type == "ImageClassifier"
    assert cfg.model.teacher.data_preprocessor.mean == [78.0]


@pytest.mark.parametrize(
    ("teacher", "checkpoint", "words"),
    [
        ("nowhere.py", "teacher.pth", ["does not exist", "nowhere.py"]),
        ("teacher.py", "nowhere.pth", ["nowhere.pth does not exist", "teacher.py"]),
        ("teacher.py", "pruned.pth", ["pruned.pth", "not of the teacher's model", "in the file, "]),
        ("empty.py", "teacher.pth", ["empty.py has no model"]),
        ("unknown.py", "teacher.pth", ["unknown.py", "NoSuchClassifier' is no registered model"]),
        ("other.py", "other.pth", ["other.py", "7 classes, the student 10"]),
        ("brighter.py", "teacher.pth", ["brighter.py", "mean [10.0]", "student's [78.0]"]),
        ("detector.py", "detector.pth", ["FCOS", "no classifier"]),
    ],
)
def test_a_teacher_that_does_not_fit(digits, tmp_path, teacher, checkpoint, words):
    for file in ("teacher.py", "teacher.pth", "pruned.py", "pruned.pth"):
        (tmp_path / file).write_bytes((digits / file).read_bytes())
    base = f'_base_ = "{tmp_path / "teacher.py"}"\n'
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "unknown.py").write_text(base + 'model = dict(type="NoSuchClassifier")\n')
    (tmp_path / "brighter.py").write_text(base + "data_preprocessor = dict(mean=[10.0])\n")
    (tmp_path / "other.py").write_text(base + "model = dict(head=dict(num_classes=7))\n")
    if teacher == "other.py":
        write(tmp_path, "other", read_config(tmp_path / "other.py"), seed=1)
    if teacher == "detector.py":
        write(tmp_path, "detector", read_config(_fcos(tmp_path)), seed=1)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=words[0]) as error:
        distill_config(
            Config.fromfile(tmp_path / "pruned.py"), tmp_path / teacher, tmp_path / checkpoint
        )
    for word in words[1:]:
        assert word in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def _fcos(folder: Path) -> Path:
    path = folder / "fcos.py"
    path.write_text(
        '_base_ = "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"\n'
        "model = dict(backbone=dict(depth=18, init_cfg=None), neck=dict(in_channels=[64, 128, 256, 512]))"
    )
    return path


def test_a_teacher_that_went_missing_is_said_at_the_start_of_training(run, tmp_path):
    options = ("--cfg-options", f"model.teacher_checkpoint={tmp_path / 'gone.pth'}")
    status, _, err = run_tool("train", run / "distill.py", "--work-dir", tmp_path / "w", *options)
    assert status == 2
    assert err.startswith("error: ")
    assert "gone.pth does not exist" in err


@pytest.mark.slow
def test_a_detector_learns_from_its_unpruned_self(small_config, tmp_path):
    cfg = plain_config(read_config(small_config), "finetune")
    cfg.train_dataloader.dataset.indices = 8
    cfg.custom_hooks = []
    for split in ("val", "test"):
        # Writing configs as text takes most of the time.
        for part in ("dataloader", "cfg", "evaluator"):
            cfg[f"{split}_{part}"] = None
    write(tmp_path, "teacher", cfg, seed=1)
    kind, widths = cfg.model.type, {"backbone.stages.2.blocks.0.ffn": 31}
    cfg.model = dict(cfg.model, type="rarts_mm.PrunedModel", of=kind, widths=widths)
    cfg.load_from = "{{ fileDirname }}/pruned.pth"
    cfg.work_dir = "{{ fileDirname }}/finetune"
    write(tmp_path, "pruned", cfg, seed=2)
    write_text(tmp_path / "distill.py", distill(tmp_path).pretty_text)
    status, _, err = run_tool("train", tmp_path / "distill.py")
    assert status == 0, err
    log = logs(tmp_path / "distill")
    assert all(f"s{stage}.loss_kd_cls" in log for stage in range(3))
    assert "loss_kd_feat" in log
    trained = weights(tmp_path / "distill" / "epoch_1.pth")
    built(read_config(tmp_path / "pruned.py"), seed=3).load_state_dict(trained, strict=True)


def logs(work_dir: Path) -> str:
    return "".join(file.read_text() for file in work_dir.glob("*/*.log"))


# Statistics of batch norms.


@pytest.fixture(scope="module")
def resnet(digits) -> Path:
    """``resnet.py`` and ``resnet.pth``: a classifier with batch norms, its statistics spoilt."""
    cfg = read_config(digits / "teacher.py")
    cfg.model = dict(
        type="ImageClassifier",
        backbone=dict(
            type="ResNet",
            depth=18,
            in_channels=1,
            stem_channels=4,
            base_channels=4,
            num_stages=1,
            strides=(1,),
            dilations=(1,),
            out_indices=(0,),
            norm_cfg=dict(type="BN", momentum=0.03),
        ),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=10,
            in_channels=4,
            loss=dict(type="CrossEntropyLoss"),
            topk=(1,),
        ),
    )
    cfg.train_dataloader.sampler.shuffle = False
    write(digits, "resnet", cfg, seed=5)
    content = torch.load(digits / "resnet.pth")
    for key, value in content["state_dict"].items():
        if key.endswith("running_mean"):
            value.fill_(3.0)
    torch.save(content, digits / "resnet.pth")
    return digits


@pytest.mark.parametrize("number", [50, 100, 120, 10])
def test_recomputed_statistics_are_means_over_batches(resnet, tmp_path, number):
    runner = runner_of(resnet / "resnet.py", resnet / "resnet.pth", tmp_path)
    runner.register_hook(RecomputeStatisticsHook(number))
    runner.test()
    batches = {50: 1, 100: 2, 120: 2, 10: 1}[number]

    network = built(runner.cfg, seed=6)
    network.load_state_dict(weights(resnet / "resnet.pth"))
    network.train(False)
    inputs = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.register_forward_pre_hook(
                lambda _, x, name=name: inputs.setdefault(name, []).append(x[0].double())
            )
    loader = runner.build_dataloader(runner.cfg.train_dataloader, seed=0)
    with torch.no_grad():
        for data, _ in zip(loader, range(batches), strict=False):
            network(network.data_preprocessor(data)["inputs"])
    norms = {n: m for n, m in runner.model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms.keys() == inputs.keys()
    for name, norm in norms.items():
        means = torch.stack([x.mean((0, 2, 3)) for x in inputs[name]]).mean(0)
        variances = torch.stack([x.var((0, 2, 3), unbiased=True) for x in inputs[name]]).mean(0)
        torch.testing.assert_close(norm.running_mean.double(), means, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), variances, rtol=1e-4, atol=1e-6)
        assert norm.momentum == 0.03
        assert not norm.training


def test_norms_that_are_frozen_keep_their_statistics(resnet, tmp_path):
    model = read_config(resnet / "resnet.py").model
    model.backbone.frozen_stages = 0
    runner = runner_of(resnet / "resnet.py", resnet / "resnet.pth", tmp_path, model=model)
    runner.register_hook(RecomputeStatisticsHook(50))
    runner.test()
    before, after = weights(resnet / "resnet.pth"), runner.model.state_dict()
    changed = {k for k in before if "running_mean" in k and not torch.equal(before[k], after[k])}
    assert changed == {k for k in before if "running_mean" in k and "layer1" in k}


def test_the_option_of_the_tool(resnet, tmp_path):
    test = ("test", resnet / "resnet.py", resnet / "resnet.pth")
    before = (resnet / "resnet.pth").read_bytes()
    # A logger goes by this name, and by the second, in which another test may have had one.
    name = ("--cfg-options", "experiment_name=the_option")
    status, _, err = run_tool(*test, "--work-dir", tmp_path / "a", "--precise-bn", "200", *name)
    assert status == 0, err
    text = logs(tmp_path / "a")
    assert "statistics of 5 batch norms from 200 training images" in text
    assert (resnet / "resnet.pth").read_bytes() == before


def test_what_has_no_statistics_is_refused(digits, resnet, tmp_path):
    swin = (digits / "teacher.py", digits / "teacher.pth")
    status, _, err = run_tool("test", *swin, "--work-dir", tmp_path / "a", "--precise-bn", "50")
    assert status == 2
    assert "ImageClassifier has no batch norm" in err
    status, _, err = run_tool("test", *swin, "--work-dir", tmp_path / "b", "--precise-bn", "0")
    assert status == 2
    assert "at least 1, got 0" in err
    bare = Config.fromfile(resnet / "resnet.py")
    bare.train_dataloader = bare.train_cfg = bare.optim_wrapper = bare.param_scheduler = None
    write_text(tmp_path / "bare.py", bare.pretty_text)
    status, _, err = run_tool(
        *("test", tmp_path / "bare.py", resnet / "resnet.pth"),
        *("--work-dir", tmp_path / "c", "--precise-bn", "50"),
    )
    assert status == 2
    assert "no train_dataloader" in err
