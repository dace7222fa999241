"""Small students and teachers, for the tests of distillation."""

import copy

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from tests import tiny

WIDTHS = {
    "backbone.stages.0.blocks.0.attn.w_msa": 5,
    "backbone.stages.0.blocks.0.ffn": 19,
    "backbone.stages.1.blocks.0.ffn": 40,
}


def build(cfg: dict, seed: int | None = None) -> nn.Module:
    """A model in float64, random where a seed is given."""
    init_default_scope(cfg.get("_scope_", "mmpretrain"))
    model = MODELS.build(copy.deepcopy(cfg))
    if seed is not None:
        tiny.randomize(model, seed)
    return model.double()


def plain(seed_of_augments: dict | None = None, **more) -> dict:
    """Config of the unpruned classifier."""
    more = dict(more, train_cfg=seed_of_augments) if seed_of_augments else more
    return tiny.architecture(data_preprocessor=tiny.preprocessor(), **more)


def pruned(**more) -> dict:
    """Config of the same, pruned."""
    cfg = plain(**more)
    return dict(cfg, type="rarts_mm.PrunedModel", of=cfg["type"], widths=dict(WIDTHS))


def save(model: nn.Module, path) -> str:
    """Write a plain checkpoint and return its path."""
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    return str(path)


def preprocessed(model: nn.Module, number: int = 3, seed: int = 0) -> dict:
    """A batch as the model's forward pass takes it, in float64."""
    batch = model.data_preprocessor(tiny.batch(number, seed), training=False)
    return {**batch, "inputs": batch["inputs"].double()}


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradient by parameter name; the model's own are cleared."""
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
