"""Values that make no sense: refused before anything is built, all of a command line's at once."""

import os

import pytest

from tests.conftest import CONFIGS, run_tool

OPTIMIZER = "optim_wrapper.weights.optimizer"
PLAIN = CONFIGS / "_base_" / "cascade-mask-rcnn_swin-micro_shapes.py"


def error(tool, *arguments):
    status, _, err = run_tool(tool, *arguments)
    assert status == 2, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    "options",
    [
        {
            "train_dataloader.batch_size=0": "a whole number >= 1",
            "val_dataloader.batch_size=-1": "a whole number >= 1",
            "test_dataloader.batch_size=1.5": "a whole number >= 1",
            "train_dataloader.num_workers=-1": "a whole number, 0 to",
            "train_dataloader.pin_memory=x": "True or False",
            "train_cfg.max_epochs=1.5": "a whole number >= 1",
            "train_cfg.val_interval=0": "a whole number >= 1",
            "auto_scale_lr.base_batch_size=0": "a whole number >= 1",
            "randomness.seed=-1": "a whole number, 0 to",
        },
        {
            "train_dataloader.batch_size=x": "a whole number >= 1",
            "train_cfg.max_epochs=-1": "a whole number >= 1",
            f"randomness.seed={2**64}": "a whole number, 0 to",
            f"{OPTIMIZER}.lr=-1": "a finite number >= 0",
            f"{OPTIMIZER}.weight_decay=-1": "a finite number >= 0",
            f"{OPTIMIZER}.betas=(0.9,1.5)": "a list, each of it a finite number >= 0 and < 1",
            "optim_wrapper.alpha.optimizer.lr=1e300": "<= 1e+06",
            "optim_wrapper.weights.clip_grad.max_norm=-1": "a negative one would turn them round",
            "optim_wrapper.alpha.clip_grad.max_norm=0": "a finite number > 0",
            "optim_wrapper.weights.accumulative_counts=0": "a whole number >= 1",
        },
        {
            "randomness.seed=abc": "a whole number, 0 to",
            "randomness.deterministic=2": "True or False",
            "default_hooks.logger.interval=0": "a whole number >= 1",
            "default_hooks.checkpoint.interval=0": "or -1",
            "default_hooks.checkpoint.max_keep_ckpts=1.5": "or -1",
            "param_scheduler.0.begin=-1": "a whole number >= 0",
            "param_scheduler.0.end=0": "a whole number >= 1",
            "param_scheduler.0.T_max=0": "a whole number >= 1",
            "param_scheduler.0.eta_min=-1": "a finite number >= 0",
            "log_level=loud": "one of 'DEBUG'",
        },
        {
            "optim_wrapper.weights.clip_grad.max_norm=nan": "is no number (NaN)",
            f"{OPTIMIZER}.lr=nan": "is no number (NaN)",
            "optim_wrapper.penalty.gamma=nan": "is no number (NaN)",
            "model.architecture.rpn_head.loss_cls.loss_weight=nan": "is no number (NaN)",
        },
        {
            f"{OPTIMIZER}.lr=None": "AdamW needs a learning rate",
            "train_dataloader.persistent_workers=True": "needs train_dataloader.num_workers >= 1",
            "param_scheduler.0.end=1": "",
            "param_scheduler.0.begin=2": "",
        },
        {
            f"{OPTIMIZER}.lr=0": "nothing would ever move",
            "optim_wrapper.alpha.optimizer.lr=0": "nothing would ever move",
        },
        {
            "optim_wrapper=3": "a dict",
            "param_scheduler=x": "a list of dicts",
            "randomness=1": "a dict",
        },
        {
            "train_cfg.max_epoch=1": "did you mean 'max_epochs'?",
            "train_dataloader.batchsize=4": "did you mean 'batch_size'?",
            f"{OPTIMIZER}.weight_decy=0.1": "did you mean 'weight_decay'?",
            "optim_wrapper.weights.clip_grad.maxnorm=1": "did you mean 'max_norm'?",
            "default_hooks.loger.interval=1": "did you mean 'default_hooks.logger'?",
            "default_hooks.checkpoint.max_keep=1": "did you mean 'max_keep_ckpts'?",
            "randomness.sed=1": "did you mean 'seed'?",
            "env_cfg.cudnn_bench=True": "did you mean 'cudnn_benchmark'?",
            "param_scheduler.0.eta_mn=0": "did you mean 'eta_min'?",
            "visualizer.vis_backend=1": "did you mean 'vis_backends'?",
        },
        {
            "train_cfg.type=SerchLoop": "did you mean 'rarts_mm.SearchLoop'",
            "model.architecture.type=CascadeRCN": "did you mean 'CascadeRCNN'",
            "model.architecture.neck.start_levl=0": "did you mean 'start_level'",
            "default_hooks.timer.type=IterTimer": "did you mean 'IterTimerHook'",
        },
    ],
    ids=["loaders", "optimisers", "hooks", "nan", "trial", "rest", "parts", "names", "types"],
)
def test_settings_that_make_no_sense(small_config, tmp_path, options):
    work_dir = tmp_path / "w"
    err = error("train", small_config, "--work-dir", work_dir, "--cfg-options", *options)
    assert not work_dir.exists()
    for option, words in options.items():
        # With its full name, and on the line with it the reason. A hook that is none has no settings.
        name = option.partition("=")[0].replace("loger.interval", "loger")
        if not words:
            name, words = "param_scheduler.0: CosineAnnealingLR", "end should be larger than begin"
        assert any(name in line and words in line for line in err.splitlines()), err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["optim_wrapper.optimizer.lr=0"],
            "optim_wrapper.optimizer.lr=0: with a learning rate of 0",
        ),
        (["optim_wrapper.clip_grad.max_norm=-1"], "optim_wrapper.clip_grad.max_norm=-1 must be"),
        (["optim_wrapper.optimizer.momentum=1"], "momentum=1 must be a finite number >= 0 and < 1"),
        (["optim_wrapper.optimizer.type=SDG"], "did you mean 'SGD'"),
        (
            ["default_scope=mmdt"],
            "default_scope='mmdt' is no package that can be imported; did you mean 'mmdet'?",
        ),
        (["val_cfg=None"], "val_dataloader and val_evaluator without val_cfg: give all of"),
        (["train_cfg.max_iters=0"], "unknown key train_cfg.max_iters of EpochBasedTrainLoop"),
    ],
)
def test_a_plain_config(tmp_path, options, words):
    err = error("train", PLAIN, "--work-dir", tmp_path / "w", "--cfg-options", *options)
    assert words in err
    assert not (tmp_path / "w").exists()


def test_a_player_that_rests_is_warned_of(small_config, monkeypatch):
    from rarts_mm.apis import training_config
    from rarts_mm.apis.validation import check

    said = []
    monkeypatch.setattr(check, "print_log", lambda text, **_: said.append(text))
    training_config(small_config, options={"optim_wrapper.alpha.optimizer.lr": 0})
    assert said == ["optim_wrapper.alpha.optimizer.lr=0: what it moves will stay as it is"]


@pytest.mark.parametrize("recipe", ["baseline", "finetune"])
def test_compress_looks_at_what_it_will_train_last(small_config, tmp_path, recipe):
    option = f"{recipe}.train_cfg.max_epochs=0"
    work = ("--work-dir", tmp_path / "w", "--ratio", "0.4")
    err = error("compress", small_config, *work, "--cfg-options", option)
    assert f"{recipe}: train_cfg.max_epochs=0 must be a whole number" in err
    assert not (tmp_path / "w").exists()


def test_the_other_tools_that_read_configs(small_config, search_run, tmp_path):
    config, checkpoint = next(search_run.glob("*.py")), search_run / "epoch_2.pth"
    bad = ("--cfg-options", "test_dataloader.batch_size=0")
    assert "batch_size=0" in error("test", config, checkpoint, "--work-dir", tmp_path / "t", *bad)
    bad = ("--cfg-options", "finetune.train_cfg.max_epochs=0", "--out", tmp_path / "p")
    assert "max_epochs=0" in error("prune", config, checkpoint, "--ratio", "0.4", *bad)
    assert "did you mean 'SwinTransformer" in error(
        "prune", "--list", PLAIN, "--cfg-options", "model.backbone.type=SwinTransforme"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_start_leaves_the_config_of_the_one_before(small_config, search_copy):
    (search_copy / "odd.pth").write_bytes(b"no checkpoint")
    before = {path: path.read_bytes() for path in search_copy.iterdir() if path.is_file()}
    resume = ("--resume", search_copy / "odd.pth", "--cfg-options", "train_cfg.max_epochs=3")
    error("train", small_config, "--work-dir", search_copy, *resume)
    assert {p: p.read_bytes() for p in search_copy.iterdir() if p.is_file()} == before


@pytest.mark.parametrize(
    ("launcher", "variable"), [("slurm", "SLURM_PROCID"), ("mpi", "OMPI_COMM"), ("pytorch", "RANK")]
)
def test_a_launcher_that_started_nothing(small_config, tmp_path, monkeypatch, launcher, variable):
    for name in [n for n in os.environ if n.startswith(("SLURM", "OMPI", "MASTER", "RANK"))]:
        monkeypatch.delenv(name)
    err = error("train", small_config, "--work-dir", tmp_path / "w", "--launcher", launcher)
    assert f"--launcher {launcher}: this process was not started by" in err
    assert variable in err
    assert "leave --launcher out" in err


def test_a_class_that_refuses_its_settings_is_named(small_config, tmp_path, monkeypatch):
    option = ("--cfg-options", "model.architecture.backbone.patch_size=x")
    err = error("train", small_config, "--work-dir", tmp_path / "w", *option)
    assert "SwinTransformer, inside CascadeRCNN" in err
    assert "RARTS_MM_TRACEBACK=1" in err
    monkeypatch.setenv("RARTS_MM_TRACEBACK", "1")
    with pytest.raises(AssertionError):
        run_tool("train", small_config, "--work-dir", tmp_path / "w2", *option)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("model = [][0]\n", "IndexError: list index out of range"),
        ("custom_imports = dict(imports=['no_such'])\n_base_ = '{base}'\n", "no_such"),
    ],
)
def test_a_config_that_fails_as_a_program(small_config, tmp_path, text, words):
    config = tmp_path / "odd.py"
    config.write_text(text.format(base=small_config))
    assert words in error("train", config, "--work-dir", tmp_path / "w")
