"""``tools/prune.py`` with budgets, scopes, criteria and rounding; Network Slimming and literal scores."""

import json

import pytest
import torch
from mmengine.config import Config

from rarts_mm.apis import read_config
from rarts_mm.apis.configs import prepare_registries
from rarts_mm.registry import MODELS
from tests.conftest import run_tool

SEARCH = """
default_scope = "mmpretrain"
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)
model = dict(
    type="rarts_mm.SearchModel",
    networks={networks},
    space={space},
    architecture=dict(
        type="ImageClassifier",
        backbone={backbone},
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=3, in_channels={channels}),
    ),
)
optim_wrapper = dict(
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1)),
    alternation=dict(type="RARTS"),
)
train_cfg = dict(type="rarts_mm.SearchLoop", max_epochs=1)
test_dataloader = dict(dataset=dict(type="CustomDataset", data_root="nowhere", pipeline=[
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=32),
    dict(type="PackInputs"),
]))
"""
PRERESNET = dict(type="rarts_mm.PreResNet", depth=20, base_channels=8)
SWIN = dict(
    type="SwinTransformer",
    arch=dict(embed_dims=24, depths=[1, 2], num_heads=[2, 4]),
    img_size=32,
    patch_size=2,
    window_size=4,
    out_indices=(1,),
)


def write_search(folder, backbone=PRERESNET, channels=128, space=None, networks=2, zeros=0.0):
    """A search's config and checkpoint with random weights and scores."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "search.py"
    space = space or dict(type="WidthSpace")
    config.write_text(
        SEARCH.format(networks=networks, space=space, backbone=backbone, channels=channels)
    )
    cfg = read_config(config)
    prepare_registries(cfg)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    with torch.no_grad():
        for alpha in model.alpha_parameters().values():
            alpha.copy_(torch.randn(alpha.shape))
            alpha[torch.rand(alpha.shape) < zeros] = 0
    checkpoint = folder / "iter_1.pth"
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return config, checkpoint


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("preresnet"))


@pytest.fixture(scope="module")
def swin(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("swin"), SWIN, 48)


def run(search, *arguments, out):
    return run_tool("prune", *search, *arguments, "--out", out)


def record(folder):
    return json.loads((folder / "widths.json").read_text())


def whole(found):
    return found["costs"]["rows"][0]


def part(found, name):
    return next(row for row in found["costs"]["rows"] if row["name"] == name)


@pytest.mark.parametrize("network", ["search", "swin"])
def test_one_search_serves_every_budget_within_one_percent(network, request, tmp_path):
    search = request.getfixturevalue(network)
    status, text, err = run(
        search, "--params", "0.6", "0.85", "--flops", "0.7", "--of", "model", out=tmp_path
    )
    assert status == 0, err
    for name, quantity, share in (
        ("pruned_params_60", "parameters", 0.6),
        ("pruned_params_85", "parameters", 0.85),
        ("pruned_flops_70", "flops", 0.7),
    ):
        found = record(tmp_path / f"{name}_of-model")
        cost = whole(found)
        reached = cost[f"{quantity}_after"] / cost[f"{quantity}_before"]
        assert 0.99 * share <= reached <= share
        # What was planned is what came out.
        assert found["plan"]["reached"] == cost[f"{quantity}_after"]
        assert found["proof"]["error"] <= 1e-10
    assert "of the budget of" in text


@pytest.mark.slow
def test_absolute_budgets_of_the_backbone(swin, tmp_path):
    status, _, err = run(swin, "--params", "50K", out=tmp_path / "p")
    assert status == 0, err
    found = record(tmp_path / "p")
    assert 49_500 <= part(found, "backbone")["parameters_after"] <= 50_000
    assert found["plan"]["of"] == "backbone"

    # At twice the size attention over windows and everything else cost four times as much.
    status, _, err = run(swin, "--flops", "20M", "--input-size", 64, 64, out=tmp_path / "f")
    assert status == 0, err
    found = record(tmp_path / "f")
    assert found["costs"]["size"] == [64, 64]
    assert 19_800_000 <= part(found, "backbone")["flops_after"] <= 20_000_000


def test_widths_are_multiples_under_the_budget(search, tmp_path):
    status, _, err = run(search, "--flops", "0.6", "--round-to", 4, out=tmp_path)
    assert status == 0, err
    found = record(tmp_path)
    for unit in found["units"].values():
        assert len(unit["kept"]) % 4 == 0 or len(unit["kept"]) == unit["size"]
    plan = found["plan"]
    assert plan["reached"] <= plan["budget"]
    # Near, and no block of four more would have fitted.
    assert (
        plan["reached"] + plan["step"] > plan["budget"] or plan["reached"] > 0.99 * plan["budget"]
    )


@pytest.mark.slow
def test_scopes(swin, tmp_path):
    shares = {}
    for scope in ("global", "layer", "type"):
        out = tmp_path / scope
        status, _, err = run(swin, "--ratio", "0.5", "--scope", scope, out=out)
        assert status == 0, err
        units = record(out)["units"]
        shares[scope] = [len(u["kept"]) / u["size"] for u in units.values()]
        kinds = {u["kind"] for u in units.values()}
        by_kind = {
            kind: sum(len(u["kept"]) for u in units.values() if u["kind"] == kind)
            / sum(u["size"] for u in units.values() if u["kind"] == kind)
            for kind in kinds
        }
        if scope == "type":
            assert all(share == pytest.approx(0.5, abs=0.02) for share in by_kind.values())
    assert all(share == pytest.approx(0.5, abs=0.05) for share in shares["layer"])
    assert max(shares["global"]) - min(shares["global"]) > 0.1


@pytest.mark.slow
def test_criteria_and_how_far_they_agree(search, tmp_path):
    kept = {}
    for criterion in ("alpha", "alpha-norm", "alpha-per-cost"):
        out = tmp_path / criterion
        status, text, err = run(search, "--flops", "0.6", "--criterion", criterion, out=out)
        assert status == 0, err
        found = record(out)
        kept[criterion] = {n: set(u["kept"]) for n, u in found["units"].items()}
        others = found["plan"]["agreements"]
        assert set(others) == {"alpha", "alpha-norm", "alpha-per-cost"} - {criterion}
        assert all(
            -1 <= o["rank_correlation"] <= 1 and 0 < o["overlap"] < 1 for o in others.values()
        )
        assert "Agreement of the criteria" in text
        if criterion == "alpha":
            first = others
    # The overlap that was reported is that of the two prunings.
    for criterion in ("alpha-norm", "alpha-per-cost"):
        both = sum(len(kept["alpha"][n] & kept[criterion][n]) for n in kept["alpha"])
        either = sum(len(kept["alpha"][n] | kept[criterion][n]) for n in kept["alpha"])
        assert first[criterion]["overlap"] == pytest.approx(both / either)


def test_exact_zeros_go_by_ratio_auto(tmp_path):
    search = write_search(tmp_path / "search", zeros=0.3)
    status, text, err = run(search, "--ratio", "auto", out=tmp_path / "auto")
    assert status == 0, err
    found = record(tmp_path / "auto")
    state = torch.load(search[1], weights_only=False)["state_dict"]
    for name, unit in found["units"].items():
        alpha = state[f"alpha.{name.replace('.', '/')}"]
        assert unit["kept"] == alpha.nonzero().flatten().tolist()
    assert 0.2 < found["removed"] / found["scores"] < 0.4
    # Nothing that had a say went: the searched network itself computes the same.
    assert found["proof"]["error"] <= 1e-10
    assert "% of the scores removed" in text


def test_scratch_of_frozen_stages_is_refused(tmp_path):
    frozen = dict(type="ResNet", depth=18, base_channels=8, frozen_stages=1, norm_eval=True)
    search = write_search(tmp_path / "search", frozen, 64)
    status, _, err = run(search, "--ratio", "0.4", "--scratch", out=tmp_path / "out")
    assert status == 2
    option = "--cfg-options model.architecture.backbone.frozen_stages=-1"
    assert option in err
    assert not (tmp_path / "out").exists()
    words = err[err.index("model.architecture") :].split("--cfg-options")[1].split()
    status, _, err = run(
        search, "--ratio", "0.4", "--scratch", "--cfg-options", *words, out=tmp_path / "out"
    )
    assert status == 0, err


def test_scores_of_another_place_are_refused(search, tmp_path):
    """Names and sizes would fit."""
    content = torch.load(search[1], weights_only=False)
    content["rarts_mm"] = dict(space="WidthSpace")
    checkpoint = tmp_path / "searched.pth"
    torch.save(content, checkpoint)
    other = "model.space.type=BatchNormSpace"
    arguments = ("--ratio", "0.4", "--out", tmp_path / "out")
    status, _, err = run_tool("prune", search[0], checkpoint, *arguments, "--cfg-options", other)
    assert status == 2
    assert "model.space.type='WidthSpace', the config has 'BatchNormSpace'" in err
    status, _, err = run_tool("prune", search[0], checkpoint, *arguments)
    assert status == 0, err


@pytest.mark.parametrize("kind", ["BatchNormSpace", "PreNormSpace"])
def test_other_places_of_scores(kind, tmp_path):
    networks = 1 if kind == "BatchNormSpace" else 2
    search = write_search(tmp_path / "search", space=dict(type=kind), networks=networks)
    status, _, err = run(search, "--flops", "0.7", out=tmp_path / "out")
    assert status == 0, err
    found = record(tmp_path / "out")
    state = torch.load(search[1], weights_only=False)["state_dict"]
    kept, gone = [], []
    for name, unit in found["units"].items():
        alpha = state[f"alpha.{name.replace('.', '/')}"].abs()
        mask = torch.zeros(len(alpha), dtype=torch.bool)
        mask[unit["kept"]] = True
        kept.append(alpha[mask])
        gone.append(alpha[~mask])
        assert not (~mask).any() or alpha[~mask].max() <= alpha[mask].min()
    assert torch.cat(gone).mean() < torch.cat(kept).mean()
    cfg = Config.fromfile(tmp_path / "out" / "pruned.py")
    prepare_registries(cfg)
    model = MODELS.build(cfg.model)
    model.load_state_dict(
        torch.load(tmp_path / "out" / "pruned.pth", weights_only=False)["state_dict"]
    )
    assert not [m for m in model.modules() if hasattr(m, "alpha")]


def test_scratch_config_has_the_widths_and_no_weights(search, tmp_path):
    status, text, err = run(search, "--ratio", "0.4", "--scratch", out=tmp_path)
    assert status == 0, err
    scratch, pruned = (Config.fromfile(tmp_path / f"{n}.py") for n in ("scratch", "pruned"))
    assert scratch.model == pruned.model
    assert scratch.get("load_from") is None
    # The same architecture down to the channels that each block reads.
    prepare_registries(scratch)
    fresh = MODELS.build(scratch.model)
    fresh.init_weights()
    there = torch.load(tmp_path / "pruned.pth", weights_only=False)["state_dict"]
    state = fresh.state_dict()
    chosen = [key for key in there if key.endswith("selected")]
    assert len(chosen) == 7
    assert all(torch.equal(state[key], there[key]) for key in chosen)
    assert not torch.equal(there[chosen[1]], torch.arange(len(there[chosen[1]])))
    assert not torch.equal(
        state["backbone.layer1.0.conv2.weight"], there["backbone.layer1.0.conv2.weight"]
    )
    assert pruned.load_from.endswith("pruned.pth")
    assert f"tools/train.py {tmp_path}/scratch.py" in text


def write_teacher(folder, classes=3):
    config = folder / f"teacher{classes}.py"
    config.write_text(
        'default_scope = "mmpretrain"\n'
        'custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)\n'
        f"model = dict(type='ImageClassifier', backbone={PRERESNET}, "
        "neck=dict(type='GlobalAveragePooling'), "
        f"head=dict(type='LinearClsHead', num_classes={classes}, in_channels=128))\n"
    )
    cfg = read_config(config)
    prepare_registries(cfg)
    checkpoint = folder / f"teacher{classes}.pth"
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)
    return config, checkpoint


def test_distill_config_beside_the_plain_one(search, tmp_path):
    teacher = write_teacher(tmp_path)
    out = tmp_path / "out"
    status, text, err = run(search, "--ratio", "0.4", "--distill", *teacher, out=out)
    assert status == 0, err
    pruned, distill = (Config.fromfile(out / f"{n}.py") for n in ("pruned", "distill"))
    assert pruned.model.type == "rarts_mm.PrunedModel"
    assert distill.model.student == pruned.model
    assert distill.model.teacher_checkpoint == str(teacher[1])
    assert distill.load_from == pruned.load_from == str(out / "pruned.pth")
    assert (distill.work_dir, pruned.work_dir) == (str(out / "distill"), str(out / "finetune"))
    assert (distill.model.temperature, distill.model.kd_weight) == (4, 1)
    assert f"tools/train.py {out}/distill.py" in text
    # The paths are of this folder, wherever it is moved to.
    moved = out.rename(tmp_path / "moved")
    assert Config.fromfile(moved / "distill.py").load_from == str(moved / "pruned.pth")
    assert Config.fromfile(moved / "distill.py").work_dir == str(moved / "distill")


def test_a_teacher_that_does_not_fit_is_known_before_anything_is_written(search, tmp_path):
    teacher = write_teacher(tmp_path, classes=4)
    out = tmp_path / "out"
    status, _, err = run(search, "--ratio", "0.4", "--distill", *teacher, out=out)
    assert status == 2
    assert "class" in err
    assert "4" in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params", "0.001"], "parameters remain at least: 1 dimension in each of"),
        (["--params", "900M"], "asks for no less than there is: the backbone has"),
        (["--params", "1"], "--params is what may remain"),
        (["--flops", "-3"], "--flops is what may remain"),
        (["--flops", "fast"], "--flops must be a number such as 0.6 or 300G"),
        (["--ratio", "0.4M"], "--ratio must be a number such as 0.4 or 'auto'"),
        (["--ratio", "auto"], "None of the"),
        (["--ratio", "auto", "--criterion", "random"], "leave one of the two out"),
        (["--ratio", "auto", "--scope", "layer"], "--scope layer has nothing to do with"),
        (["--flops", "0.7", "--of", "backbone"], "cost no FLOPs in the backbone"),
        (["--ratio", "0.9", "--min-keep", "9", "--round-to", "8"], "at least 16 kept in each"),
        (["--ratio", "0.4", "--of", "model"], "only --params and --flops are budgets"),
        (["--flops", "0.6", "--round-to", "640"], "round_to=640 is larger than every"),
        (["--flops", "0.6", "--round-to", "0"], "round_to must be a whole number of at least 1"),
        (["--flops", "0.6", "--input-size", "0", "32"], "got (0, 32)"),
        (["--ratio", "0.99"], "the largest ratio is"),
        (["--ratio", "1e-300"], "--ratio 1e-300 removes nothing: it is less than half of one of"),
        (["--params", "0.9999999999"], "removes nothing"),
        (["--curve", "--distill", "a.py", "b.pth"], "give --ratio or a budget"),
        (
            ["--ratio", "0.4", "--cfg-options", "model.space.exclude=backbone.layer1.0.bn4"],
            "'backbone.layer1.0.bn",
        ),
        (["--ratio", "0.4", "--cfg-options", "model.space.include=*.bn5"], "include names '*.bn5'"),
    ],
)
def test_bad_input_writes_nothing(search, arguments, message, tmp_path):
    out = tmp_path / "out"
    status, _, err = run(search, *arguments, out=out)
    assert status == 2, err
    assert message in err
    assert not out.exists()


def test_an_input_size_that_the_network_cannot_take(tmp_path):
    search = write_search(
        tmp_path / "search", dict(type="VisionTransformer", arch="deit-t", img_size=32), 192
    )
    status, _, err = run(search, "--flops", "0.6", "--input-size", 30, 50, out=tmp_path / "out")
    assert status == 2
    assert "does not run on one image of 30 x 50 pixels" in err
    assert not (tmp_path / "out").exists()


def test_what_a_configs_program_needs_is_not_written(search, tmp_path):
    """MMEngine writes a class that the config has imported as if it were a setting."""
    config = tmp_path / "search.py"
    helpers = """from functools import partial
from pathlib import Path
def doubled(x):
    return 2 * x
half = partial(round, ndigits=1)
where = Path("data") / "here"
"""
    text = search[0].read_text().replace('data_root="nowhere"', 'data_root=where / "images"')
    assert "where /" in text
    config.write_text(helpers + text)
    status, _, err = run((config, search[1]), "--ratio", "0.4", out=tmp_path / "out")
    assert status == 0, err
    cfg = Config.fromfile(tmp_path / "out/pruned.py")
    assert cfg.test_dataloader.dataset.data_root == "data/here/images"
    assert cfg.where == "data/here"
    assert not {"Path", "partial", "doubled", "half"} & set(cfg)
    # Written down by MMEngine itself when the model is trained.
    assert "data/here/images" in cfg.pretty_text
