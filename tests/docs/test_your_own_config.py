"""docs/your-own-config.md: what it tells to paste, pasted; what it says, checked."""

import contextlib
import inspect
import io
import json
import re
from pathlib import Path

import mmcv
import mmdet
import mmpretrain
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from rarts_mm.apis import plain_config
from rarts_mm.engine import (
    LagrangianHook,
    RARTSOptimWrapper,
    ScoreHook,
    SearchLoop,
)
from rarts_mm.models import SearchModel
from rarts_mm.registry import MODELS
from tests.conftest import ROOT, load_tool, run_tool

PAGE = (ROOT / "docs" / "your-own-config.md").read_text()
# Blocks by the comment in their first line.
BLOCKS = dict(re.findall(r"```python\n# ([^\n]*)\n(.*?)```", PAGE, re.DOTALL))
DETECTOR, CLASSIFIER = "configs/my_detector.py", "configs/my_classifier.py"


def paste(folder: Path, *names: str, base: str | None = None, load_from: str | None = None) -> Path:
    """The blocks in one file; ``base`` and ``load_from`` replace what the page has there."""
    text = "\n".join(BLOCKS[name] for name in names)
    if base is not None:
        text, found = re.subn(r"^_base_ = .*$", f'_base_ = "{base}"', text, flags=re.MULTILINE)
        assert found == 1
        text, found = re.subn(
            r"^load_from = .*$", f"load_from = {load_from!r}", text, flags=re.MULTILINE
        )
        assert found == 1
    path = folder / Path(names[0]).name
    path.write_text(text)
    return path


def base_of(name: str, folder: Path) -> Config:
    """The base config alone, read through a ``_base_`` line as in the block."""
    path = folder / "base.py"
    path.write_text(BLOCKS[name].splitlines()[0])
    return Config.fromfile(path)


def build(cfg: Config) -> SearchModel:
    init_default_scope(cfg.default_scope)
    preprocessor = cfg.get("data_preprocessor")
    extra = {} if preprocessor is None else dict(data_preprocessor=preprocessor)
    return MODELS.build(dict(cfg.model, **extra))


# ---- the two configs at full size ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "depths", "rate"),
    [(DETECTOR, (2, 2, 6, 2), 1e-4), (CLASSIFIER, (2, 2, 18, 2), 1e-3)],
)
def test_builds_with_the_right_scores_and_optimisers(name, depths, rate, tmp_path):
    cfg = Config.fromfile(paste(tmp_path, name))
    model = build(cfg)
    alphas = model.alpha_parameters()
    widths = [96 * 2**stage for stage in range(4)]
    attention = [n for n in alphas if n.endswith("attn.w_msa")]
    assert len(alphas) == 2 * sum(depths)
    assert sum(alphas[n].numel() for n in attention) == 32 * sum(depths)
    assert sum(a.numel() for n, a in alphas.items() if n not in attention) == sum(
        depth * 4 * width for depth, width in zip(depths, widths, strict=True)
    )
    if name == DETECTOR:
        assert sum(a.numel() for a in alphas.values()) == 384 + 17_664
        assert "384 attention scores and 17,664 MLP scores" in PAGE
        assert sum(p.numel() for p in model.auxiliary.backbone.parameters()) == 27_520_698
    else:
        (size,) = {m["Metadata"]["Parameters"] for m in models_of(name)}
        assert sum(p.numel() for p in model.auxiliary.parameters()) == pytest.approx(size, rel=1e-4)
        # The normalisation that stands at the base's top level, and its mixup, came along.
        assert model.auxiliary.data_preprocessor.mean.flatten().tolist() == pytest.approx(
            cfg.data_preprocessor.mean
        )
        assert len(model.data_preprocessor.batch_augments.augments) == 2

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for player in ("auxiliary", "primary", "alpha"):
        groups = wrapper[player].optimizer.param_groups
        assert {group["lr"] for group in groups} == {rate}
        decays = {group["weight_decay"] for group in groups}
        assert decays == ({0} if player == "alpha" else {0, 0.05})
    assert type(wrapper.stepper.players["alpha"].optimizer) is torch.optim.AdamW


@pytest.mark.parametrize("name", [DETECTOR, CLASSIFIER])
def test_dumped_and_read_again_it_is_the_same(name, tmp_path):
    cfg = Config.fromfile(paste(tmp_path, name))
    cfg.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py").to_dict() == cfg.to_dict()


@pytest.mark.parametrize("recipe", ["finetune", "baseline"])
@pytest.mark.parametrize("name", [DETECTOR, CLASSIFIER])
def test_later_runs_are_the_bases(name, recipe, tmp_path):
    plain = plain_config(Config.fromfile(paste(tmp_path, name)), recipe).to_dict()
    base = base_of(name, tmp_path).to_dict()
    # The optimiser, schedule, model, data, metrics and hooks are equal, entry by entry.
    differing = {k for k in {*plain, *base} if plain.get(k) != base.get(k)}
    assert differing == {"train_cfg", "custom_imports", "custom_hooks"}
    assert plain["custom_imports"]["imports"] == ["rarts_mm"]
    assert plain["custom_hooks"] == []
    assert plain["train_cfg"]["type"] == "EpochBasedTrainLoop"
    for key in ("max_epochs", "val_interval"):
        assert plain["train_cfg"][key] == base["train_cfg"][key]


def models_of(name: str) -> list[dict]:
    """What the library's own model index says about a block's base config."""
    library, path = re.search(r'_base_ = "(\w+)::(.*)"', BLOCKS[name]).groups()
    module = {"mmdet": mmdet, "mmpretrain": mmpretrain}[library]
    configs = Path(module.__file__).parent / ".mim" / "configs"
    index = yaml.safe_load((configs / path).with_name("metafile.yml").read_text())
    found = [m for m in index["Models"] if m.get("Config") == f"configs/{path}"]
    assert found
    return found


@pytest.mark.parametrize("name", [DETECTOR, CLASSIFIER])
def test_starts_from_the_librarys_own_checkpoint(name, tmp_path):
    known = {m.get("Weights") or m["Results"][0].get("Weights") for m in models_of(name)}
    assert Config.fromfile(paste(tmp_path, name)).load_from in known


def test_schedules_of_later_runs_can_be_replaced(tmp_path):
    cfg = Config.fromfile(paste(tmp_path, DETECTOR, "a shorter fine-tuning"))
    finetune, baseline = (plain_config(cfg, recipe) for recipe in ("finetune", "baseline"))
    base = base_of(DETECTOR, tmp_path)
    assert finetune.train_cfg.max_epochs == 6
    assert [s.type for s in finetune.param_scheduler] == ["CosineAnnealingLR"]
    assert finetune.optim_wrapper == base.optim_wrapper
    assert baseline.train_cfg == base.train_cfg
    assert baseline.param_scheduler == base.param_scheduler


def test_keys_of_the_table_exist():
    known = {
        "model": SearchModel,
        "optim_wrapper": RARTSOptimWrapper,
        "train_cfg": SearchLoop,
        "LagrangianHook": LagrangianHook,
        "ScoreHook": ScoreHook,
    }
    rows = re.findall(r"^\| `(\w+)\.\w+`.*$", PAGE, re.MULTILINE)
    assert len(rows) >= 12
    for row in re.finditer(r"^\| (`\w+\.\w+`[^|]*) \|", PAGE, re.MULTILINE):
        owner = row[1].partition(".")[0].strip("`")
        parameters = inspect.signature(known[owner].__init__).parameters
        for key in re.findall(r"\.(\w+)`", row[1]):
            # The members of the wrapper are built by its constructor.
            assert key in parameters or (owner, key) in {
                ("optim_wrapper", "weights"),
                ("optim_wrapper", "alpha"),
            }
    parameters = inspect.signature(RARTSOptimWrapper.__init__).parameters
    assert (parameters["lam"].default, parameters["beta"].default) == (1.0, 0.1)


@pytest.mark.parametrize("page", ["your-own-config.md", "coco.md", "search.md", "prune.md"])
def test_options_in_the_pages_exist(page):
    known = {}
    for tool in ("train", "prune", "test", "compress"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
            load_tool(tool).main(["--help"])
        known[tool] = set(re.findall(r"--[a-z][a-z-]*", out.getvalue()))
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    everywhere = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert everywhere <= set().union(*known.values())
    for tool, rest in re.findall(r"tools/(\w+)\.py\b([^`#\n]*)", text):
        assert set(re.findall(r"--[a-z][a-z-]*", rest)) <= known[tool], (tool, rest)


# ---- the same lines over small versions of both bases, all the way -----------------------------

SMALL_DETECTOR = """
_base_ = "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py"
model = dict(
    backbone=dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=3,
                  drop_path_rate=0.0, init_cfg=None),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1, num_classes=3)))
train = [
    dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=(64, 64), keep_ratio=True), dict(type="PackDetInputs")]
test = [
    dict(type="LoadImageFromFile"), dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs",
         meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"))]
shapes = dict(data_root="{data}/", metainfo=dict(classes=("circle", "rectangle", "triangle")))
here = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=4, **here, dataset=dict(
    pipeline=train, ann_file="annotations/train.json", data_prefix=dict(img="train/"), **shapes))
val_dataloader = dict(**here, dataset=dict(
    pipeline=test, ann_file="annotations/val.json", data_prefix=dict(img="val/"), **shapes))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{data}/annotations/val.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
"""

SMALL_CLASSIFIER = """
_base_ = "mmpretrain::swin_transformer/swin-small_16xb64_in1k.py"
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=16, depths=[1, 1, 2, 1],
                            num_heads=[1, 2, 4, 8]),
                  img_size=64, window_size=2, drop_path_rate=0.0),
    head=dict(num_classes=3, in_channels=128, topk=1))
data_preprocessor = dict(num_classes=3)
train = [dict(type="LoadImageFromFile"), dict(type="RandomResizedCrop", scale=64),
         dict(type="PackInputs")]
test = [dict(type="LoadImageFromFile"), dict(type="ResizeEdge", scale=72, edge="short"),
        dict(type="CenterCrop", crop_size=64), dict(type="PackInputs")]
images = dict(data_root="{data}", metainfo=dict(classes=("dark", "middle", "bright")))
here = dict(batch_size=4, num_workers=0, persistent_workers=False)
train_dataloader = dict(**here, dataset=dict(pipeline=train, **images))
val_dataloader = dict(**here, dataset=dict(pipeline=test, **images))
test_dataloader = val_dataloader
val_evaluator = dict(topk=1)
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
param_scheduler = [
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, convert_to_iter_based=True)]
custom_imports = dict(imports=["mmpretrain.engine"], allow_failed_imports=False)
custom_hooks = [dict(type="EMAHook", momentum=1e-4, priority="ABOVE_NORMAL")]
"""


def write_images(root: Path) -> Path:
    """A data set in ImageNet's layout: 24 + 6 images of three brightnesses."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for label, level in enumerate((40, 110, 200)):
            for i in range(count):
                noise = generator.integers(-30, 30, (70, 80, 3))
                pixels = (level + noise).clip(0, 255).astype(np.uint8)
                mmcv.imwrite(pixels, str(root / split / f"n{label:08d}" / f"{i}.jpg"))
    return root


def plain_checkpoint(config: Path, path: Path) -> dict[str, torch.Tensor]:
    """Save a "trained" model of a plain config: random weights, biases and norms."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.1)
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    return model.state_dict()


def go_all_the_way(config: Path, work: Path) -> tuple[Path, Path]:
    """Search, prune, fine-tune, test; returns the pruned folder and the fine-tuned checkpoint."""
    run = work / "search"
    pruned = run / "pruned_40"
    tuned = pruned / "finetune" / "epoch_1.pth"
    for name, *arguments in (
        ("train", config, "--work-dir", run),
        ("prune", run / config.name, run / "epoch_1.pth", "--ratio", "0.4"),
        ("train", pruned / "pruned.py"),
        ("test", pruned / "pruned.py", tuned, "--work-dir", work / "test"),
    ):
        status, _, err = run_tool(name, *arguments)
        assert status == 0, (name, err)
    return pruned, tuned


@pytest.mark.slow
def test_a_small_detector_all_the_way(shapes, tmp_path):
    base = tmp_path / "small.py"
    base.write_text(SMALL_DETECTOR.replace("{data}", str(shapes)))
    plain_checkpoint(base, tmp_path / "trained.pth")
    config = paste(tmp_path, DETECTOR, base=base, load_from=f"{tmp_path}/trained.pth")
    pruned, tuned = go_all_the_way(config, tmp_path)

    from mmdet.apis import inference_detector, init_detector

    model = init_detector(str(pruned / "pruned.py"), str(tuned), device="cpu")
    assert type(model).__name__ == "MaskRCNN"
    result = inference_detector(model, np.full((50, 70, 3), 90, dtype=np.uint8))
    assert result.pred_instances.masks.shape[1:] == (50, 70)
    cfg = Config.fromfile(pruned / "pruned.py")
    trained = Config.fromfile(base)
    assert cfg.param_scheduler == trained.param_scheduler
    assert cfg.optim_wrapper == trained.optim_wrapper
    assert cfg.model.backbone.embed_dims == 16


@pytest.mark.slow
def test_a_small_classifier_all_the_way(tmp_path):
    """With a base that has hooks and imports, an optimiser for alpha, and an old checkpoint."""
    base = tmp_path / "small.py"
    base.write_text(SMALL_CLASSIFIER.replace("{data}", str(write_images(tmp_path / "images"))))
    before = plain_checkpoint(base, tmp_path / "trained.pth")
    # The published files of MMPretrain's predecessor name the last norm so.
    old = {re.sub(r"^backbone\.norm3\.", "backbone.norm.", k): v for k, v in before.items()}
    assert old.keys() != before.keys()
    torch.save(dict(meta={}, state_dict=old), tmp_path / "trained.pth")
    status, _, err = run_tool(
        "test", base, tmp_path / "trained.pth", "--work-dir", tmp_path / "before"
    )
    assert status == 0, err
    config = paste(
        tmp_path,
        CLASSIFIER,
        "hooks and imports of the base stay",
        "an optimiser for alpha, at a constant rate",
        base=base,
        load_from=f"{tmp_path}/trained.pth",
    )
    pruned, tuned = go_all_the_way(config, tmp_path)

    # The later config has the base's hook, and not the loggers of the search.
    cfg = Config.fromfile(pruned / "pruned.py")
    trained = Config.fromfile(base)
    assert [h for h in cfg.custom_hooks if "rarts_mm" not in h.type] == trained.custom_hooks
    assert not {"rarts_mm.LagrangianHook", "rarts_mm.ScoreHook"} & {
        h.type for h in cfg.custom_hooks
    }
    assert cfg.custom_imports.imports == ["mmpretrain.engine", "rarts_mm"]
    assert cfg.param_scheduler == trained.param_scheduler

    # Alpha had Adam at a constant rate; what the checkpoint holds under EMA are the averages.
    content = torch.load(pruned.parent / "epoch_1.pth", weights_only=False)
    # Drawn with mean 1 and deviation 0.1; three steps moved it by much less.
    key = "backbone.norm3.weight"
    for network in ("auxiliary", "primary"):
        found = content["state_dict"][f"{network}.{key}"]
        torch.testing.assert_close(found, before[key], rtol=0, atol=5e-3)
    (group,) = content["optimizer"]["alpha"]["param_groups"]
    assert (group["lr"], group["betas"]) == (1e-3, (0.5, 0.999))
    assert content["optimizer"]["primary"]["param_groups"][0]["lr"] < 0.5e-3
    averages = {k: v for k, v in content["state_dict"].items() if k.startswith("alpha.")}
    assert averages
    for key, average in averages.items():
        raw = content["ema_state_dict"][f"module.{key}"]
        assert 0 < (average - 1).abs().max() < (raw - 1).abs().max()

    # The page's own lines.
    code = BLOCKS["in your own code"].replace("work_dirs/my_classifier/pruned_40", str(pruned))
    image = next((tmp_path / "images" / "val").rglob("*.jpg"))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code.replace("cat.jpg", str(image)), {})
    # MMPretrain and its progress bar have printed before it, on the same line.
    assert out.getvalue().strip().endswith(("dark", "middle", "bright"))
    record = json.loads((pruned / "widths.json").read_text())
    model = mmpretrain.get_model(str(pruned / "pruned.py"), pretrained=str(tuned))
    for unit, entry in record["units"].items():
        if entry["kind"] == "mlp":
            first = model.get_submodule(unit).layers[0][0]
            assert first.out_features == len(entry["kept"])

    # The page's list of units.
    code = BLOCKS["what will be scored"].replace("configs/my_detector.py", str(config))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue().splitlines() == [
        f"{unit}: {entry['size']} scores ({entry['kind']})"
        for unit, entry in record["units"].items()
    ]


def test_nothing_to_score(tmp_path):
    base = tmp_path / "densenet.py"
    base.write_text(
        "_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'\n"
        "model = dict(backbone=dict(_delete_=True, type='DenseNet', arch='121'), neck=None,\n"
        "    head=dict(_delete_=True, type='ClsHead', loss=dict(type='CrossEntropyLoss')))\n"
    )
    config = paste(tmp_path, CLASSIFIER, base=str(base))
    loaders = [f"{phase}_dataloader.dataset.data_root={tmp_path}" for phase in ("train", "val")]
    status, _, err = run_tool(
        "train", config, "--work-dir", tmp_path / "w", "--cfg-options", *loaders
    )
    assert status == 2
    for line in re.search(r"\n    (error: There .*)\n    (Looked .*) \.\.\.", PAGE).groups():
        assert line in err
    assert "WindowMSA" in err
    assert "FFN" in err
