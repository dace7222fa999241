"""Checkpoints as people have them: published, from a URL, in older names, of something else."""

import functools
import http.server
import json
import threading
from collections import OrderedDict

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from rarts_mm.apis.search_checkpoint import read_checkpoint
from rarts_mm.registry import MODELS
from tests.checkpoint_reader.spoiling import flip, put_program_in
from tests.conftest import CONFIGS, run_tool

RENAMES = [
    ("backbone.stages.", "backbone.layers."),
    (".attn.w_msa.", ".attn."),
    (".ffn.layers.0.0.", ".mlp.fc1."),
    (".ffn.layers.1.", ".mlp.fc2."),
    ("patch_embed.projection.", "patch_embed.proj."),
]


def released(state: dict[str, torch.Tensor]) -> "OrderedDict[str, torch.Tensor]":
    """A detector's weights under the names of the original Swin release."""
    out = OrderedDict()
    for key, value in state.items():
        for new, old in RENAMES:
            key = key.replace(new, old)
        out[key] = value
    return out


@pytest.fixture(scope="module")
def plain(small_config, tmp_path_factory):
    """The plain config of the small detector, and a model of random weights for it."""
    folder = tmp_path_factory.mktemp("plain")
    search = Config.fromfile(small_config)
    cfg = Config.fromfile(CONFIGS / "_base_" / "cascade-mask-rcnn_swin-micro_shapes.py")
    cfg.model = search.model.architecture
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[key] = search[key]
    cfg.val_evaluator = cfg.test_evaluator = search.val_evaluator
    cfg.dump(folder / "plain.py")
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(meta={}, state_dict=model.state_dict()), folder / "model.pth")
    return folder, model.state_dict()


@pytest.fixture
def server(plain, monkeypatch, tmp_path):
    """The folder of the plain model, served on this machine; downloads go to a fresh cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(plain[0]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_a_released_detector_is_tested_through_its_hook_and_refused_without(plain, tmp_path):
    folder, state = plain
    checkpoint = tmp_path / "released.pth"
    torch.save(dict(state_dict=released(state)), checkpoint)
    work_dir = ("--work-dir", tmp_path / "t")
    status, _, err = run_tool("test", folder / "plain.py", checkpoint, *work_dir)
    assert status == 2
    assert "does not fit" in err
    assert "backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table" in err
    cfg = Config.fromfile(folder / "plain.py")
    cfg.custom_hooks = [dict(type="rarts_mm.SwinReleaseHook")]
    cfg.dump(tmp_path / "with_hook.py")
    status, _, err = run_tool("test", tmp_path / "with_hook.py", checkpoint, *work_dir)
    assert status == 0, err


def test_a_url_is_a_checkpoint_too(plain, server, tmp_path):
    folder, state = plain
    found = read_checkpoint(f"{server}/model.pth")["state_dict"]
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], v) for k, v in state.items())
    arguments = ("--work-dir", tmp_path / "t")
    status, _, err = run_tool("test", folder / "plain.py", f"{server}/model.pth", *arguments)
    assert status == 0, err
    status, _, err = run_tool("test", folder / "plain.py", f"{server}/none.pth", *arguments)
    assert status == 2
    assert f"{server}/none.pth cannot be fetched" in err
    assert "Download it" in err


@pytest.mark.parametrize("spoil", ["flipped", "program"])
def test_a_spoilt_download_is_refused_before_anything_is_built(plain, server, tmp_path, spoil):
    folder, _ = plain
    content = (folder / "model.pth").read_bytes()
    file = folder / f"{spoil}.pth"
    file.write_bytes(content)
    if spoil == "flipped":
        flip(file)
        words = "the checksum of its part"
    else:
        put_program_in(file, tmp_path / "was-run")
        words = "it holds more than data (eval)"
    address = f"{server}/{spoil}.pth"
    options = ("--work-dir", tmp_path / "w")
    for command in (
        ("test", folder / "plain.py", address, *options),
        ("train", folder / "plain.py", *options, "--cfg-options", f"load_from={address}"),
    ):
        status, _, err = run_tool(*command)
        assert status == 2, err
        assert f"checkpoint {address} " in err
        assert words in err
    assert not (tmp_path / "w").exists()
    assert not (tmp_path / "was-run").exists()


def test_classifiers_of_the_release_keep_their_weights_under_model(tmp_path):
    weights = {"head.bias": torch.tensor([1.0, -2.0])}
    torch.save({"model": weights}, tmp_path / "released.pth")
    found = read_checkpoint(tmp_path / "released.pth")["state_dict"]
    assert found.keys() == weights.keys()
    assert torch.equal(found["head.bias"], weights["head.bias"])


@pytest.mark.slow
def test_a_chain_refuses_a_checkpoint_that_does_not_fit_before_it_searches(
    plain, small_config, tmp_path
):
    _, state = plain
    del state["neck.fpn_convs.0.conv.weight"]
    torch.save(dict(state_dict=state), tmp_path / "other.pth")
    work = tmp_path / "w"
    status, text, err = run_tool(
        "compress",
        small_config,
        *("--ratio", "0.4", "--work-dir", work, "--checkpoint", tmp_path / "other.pth"),
    )
    assert status == 2
    assert "neck.fpn_convs.0.conv.weight: not in the file" in err
    assert "[search]" not in text
    assert not (work / "search").exists()
    assert (
        not (work / "stages.json").exists()
        or not json.loads((work / "stages.json").read_text())["done"]
    )


def test_mmengines_activation_checkpointing_becomes_the_searchs(small_config):
    from rarts_mm.apis import training_config

    cfg = training_config(
        small_config,
        work_dir="unused",
        options={"activation_checkpointing": ["backbone.stages.2"]},
    )
    assert "activation_checkpointing" not in cfg
    assert cfg.model.activation_checkpointing == ["backbone.stages.2"]
