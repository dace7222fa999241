"""Searches in this process' share; for torchrun.

python -m torch.distributed.run --nproc_per_node=2 tests/engine/distributed_search.py FOLDER
writes FOLDER/steps<N>.pth (a few steps on fixed batches), FOLDER/cells<N>.pth (the same of topology
searches), FOLDER/norms<N>.pth (layers of synchronised batch norm) and FOLDER/run<N>.pth (an epoch of
the Runner's) in process N. The folders FOLDER/whole and FOLDER/parts are an uninterrupted search and the
same one cut off and resumed, with the states of process N in FOLDER/resumed<N>.pth.
"""

import copy
import sys
from pathlib import Path

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import MODELS as ROOT_MODELS
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.structures import DataSample
from torch import nn

from rarts_mm.apis import command_line
from rarts_mm.engine import SearchDistributed
from rarts_mm.engine.sync_batch_norm import synchronise_on_cpu
from tests import tiny
from tests.cells import searches
from tests.engine import resuming

STEPS, BATCH = 2, 4
# By name, networks and what the alternation is.
ALTERNATIONS = {
    "RARTS": (2, dict(type="RARTS")),
    "RARTSJacobi": (2, dict(type="RARTSJacobi")),
    "DARTS1": (1, dict(type="DARTS1")),
    "DARTS2": (1, dict(type="DARTS2")),
    "DARTS2-exact": (1, dict(type="DARTS2", derivative="exact", first="alpha")),
    "MiLeNAS": (1, dict(type="MiLeNAS")),
    "Joint": (1, dict(type="Joint")),
}


@ROOT_MODELS.register_module()
class OptionalHead(LinearClsHead):
    """Has a part that only batches with class 0 use: on some ranks it gets no gradient."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.zero = nn.Linear(self.in_channels, 1)

    def loss(self, feats, data_samples, **kwargs):
        losses = super().loss(feats, data_samples, **kwargs)
        chosen = [i for i, sample in enumerate(data_samples) if sample.gt_label.item() == 0]
        if chosen:
            losses["loss_zero"] = self.zero(feats[-1][chosen]).square().sum() / len(data_samples)
        return losses


def share(data: dict, rank: int, world_size: int) -> dict:
    """This rank's part of a global batch."""
    size = BATCH // world_size
    return {key: values[rank * size : (rank + 1) * size] for key, values in data.items()}


def cnn() -> dict:
    """Config of a residual network with synchronised batch norms; alone they are plain ones."""
    backbone = dict(type="ResNet_CIFAR", depth=18, stem_channels=4, base_channels=4)
    kind = tiny.architecture(head=dict(type=OptionalHead, in_channels=32))
    kind["backbone"] = dict(backbone, norm_cfg=dict(type="SyncBN", momentum=0.3))
    return kind


# What is searched: the architecture's config and the search model's further arguments.
NETWORKS = {
    "transformer": lambda: dict(architecture=tiny.architecture(head=dict(type=OptionalHead))),
    "SyncBN": lambda: dict(architecture=cnn()),
    "SyncBN, scales": lambda: dict(architecture=cnn(), space=dict(type="BatchNormSpace")),
    "SyncBN, checkpointing": lambda: dict(
        architecture=cnn(), activation_checkpointing=["backbone.layer2", "backbone.layer3.1"]
    ),
}
CASES = [
    *((network, name) for network in ("transformer", "SyncBN") for name in ALTERNATIONS),
    ("SyncBN, scales", "RARTS"),
    ("SyncBN, checkpointing", "RARTS"),
]


def train(rank: int, world_size: int, network: str, name: str) -> dict:
    """Search for a few steps; return the model's and the optimisers' states."""
    networks, alternation = ALTERNATIONS[name]
    model = tiny.search_model(networks=networks, **NETWORKS[network]())
    wrapped = SearchDistributed(model) if world_size > 1 else model
    # Momentum SGD: its buffer takes part in the virtual step of DARTS2.
    sgd = dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=0.01)
    wrapper = tiny.wrap(
        wrapped,
        alternation=alternation,
        weights=dict(optimizer=sgd, clip_grad=dict(max_norm=0.5)),
        lam=0.7,
        beta=0.3,
        penalty=dict(type="L1Penalty", gamma=0.01),
    )
    wrapper.stepper.measure = True
    logs = []
    for step in range(STEPS):
        batches = tiny.batches(step, BATCH)
        for data in batches.values():
            # Class 0 in the first process' share alone.
            data["data_samples"] = [DataSample().set_gt_label(y) for y in (0, 1, 2, 3)]
        parts = {half: share(data, rank, world_size) for half, data in batches.items()}
        logs.append({k: float(v) for k, v in wrapped.train_step(parts, wrapper).items()})
    residuals = {k: float(v) for k, v in wrapper.stepper.residuals.items()}
    return dict(
        residuals=residuals, model=model.state_dict(), optimizer=wrapper.state_dict(), logs=logs
    )


def train_cells(rank: int, world_size: int, space: str, synchronised: bool) -> dict:
    """Search a topology for a step or two; return the model's and the optimisers' states.

    Args:
        synchronised: in several processes, batch norms are made synchronised ones, as by ``sync_bn``.
            Otherwise they are in evaluation mode: each process normalises its own images, so that half
            a batch is another computation in training mode.
    """
    model = searches.small(space, space=dict(relaxation=dict(type="Sigmoid")))
    if not synchronised:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                if not module.track_running_stats:
                    # These would normalise by the batch in evaluation mode too.
                    module.register_buffer(
                        "running_mean", torch.zeros(module.num_features).double()
                    )
                    module.register_buffer("running_var", torch.ones(module.num_features).double())
                    module.track_running_stats = True
                module.eval()
    elif world_size > 1:
        model = convert_sync_batchnorm(model)
    wrapped = SearchDistributed(model) if world_size > 1 else model
    penalty = dict(type="ZeroOnePenalty", gamma=0.5)
    wrapper = tiny.wrap(wrapped, lam=0.7, beta=0.3, penalty=penalty)
    # Hundreds of synchronised norms take their time.
    for step in range(1 if synchronised else 2):
        batches = searches.batches(BATCH, 2 * step)
        wrapped.train_step({h: share(b, rank, world_size) for h, b in batches.items()}, wrapper)
    return dict(model=model.state_dict(), optimizer=wrapper.state_dict())


# Layers of synchronised batch norm: arguments, shape of an image, images of the first process.
NORMS = {
    "maps": (dict(), (5, 3, 7), 2),
    "most with one": (dict(momentum=None), (5, 3, 7), 3),
    "all with one": (dict(momentum=0.4), (5, 1, 1), 4),
    "vectors, no weights": (dict(affine=False), (5,), 1),
    "no running statistics": (dict(track_running_stats=False), (5, 4), 3),
}


def normalise(rank: int, world_size: int, name: str) -> dict:
    """Two passes of a layer; output and gradients of this process' share of 4 images."""
    settings, shape, first = NORMS[name]
    generator = torch.Generator().manual_seed(len(name))
    norm = nn.SyncBatchNorm(5, eps=0.1, **settings).double()
    tiny.randomize(norm)
    if world_size > 1:
        synchronise_on_cpu(norm)
    own = (slice(first), slice(first, None))[rank] if world_size > 1 else slice(None)
    for _ in range(2):
        x = torch.randn(4, *shape, generator=generator, dtype=torch.float64)[own]
        factors = torch.randn(4, *shape, generator=generator, dtype=torch.float64)[own]
        x.requires_grad_()
        out = norm(x)
        # Not linear in the output, of which a batch's sum is constant.
        (factors * out.sin()).sum().backward()
    gradients = {k: p.grad for k, p in norm.named_parameters()}
    return dict(images=dict(out=out.detach(), x=x.grad), sums=gradients, state=norm.state_dict())


class Noted(Hook):
    """Notes where a run starts, and which images each step gets."""

    priority = "LOWEST"

    def before_train(self, runner) -> None:
        self.steps: list[dict[str, list[int]]] = []
        self.start = {k: v.clone() for k, v in runner.model.module.state_dict().items()}

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        del runner, batch_idx
        self.steps.append(
            {half: [s.get("number") for s in b["data_samples"]] for half, b in data_batch.items()}
        )


def run(folder: Path) -> dict:
    """Search for one epoch through the Runner."""
    noted = Noted()
    data = tiny.loader(batch_size=2)
    data["dataset"]["pipeline"] = [dict(type="mmpretrain.PackInputs", meta_keys=("number",))]
    runner = tiny.runner(
        folder / "run",
        data=data,
        launcher="pytorch",
        cfg=dict(model_wrapper_cfg=dict(type="rarts_mm.SearchDistributed")),
        # Each process would begin with weights of its own, were they not made equal.
        randomness=dict(seed=5, diff_rank_seed=True),
        custom_hooks=[noted],
    )
    runner.train()
    optimizer = runner.optim_wrapper.state_dict()
    model = runner.model.module.state_dict()
    return dict(start=noted.start, steps=noted.steps, model=model, optimizer=optimizer)


def resumable() -> dict:
    """Model and data of a search whose batch norms follow the images of their own process."""
    kind = cnn()
    kind["backbone"]["norm_cfg"] = dict(type="BN")
    kind["head"] = dict(
        kind["head"], type="LinearClsHead", **resuming.NOISE["architecture"]["head"]
    )
    return dict(
        model=dict(type="rarts_mm.SearchModel", architecture=kind),
        noisy=True,
        data=resuming.data(batch_size=2, noisy=True),
    )


def cut_off_and_resume(folder: Path) -> dict:
    """Search two epochs, and once more in two parts; random draws, and batch norms of this process.

    Returns:
        This process' states at the end, of the whole search and of the one in parts.
    """
    several = dict(
        launcher="pytorch",
        cfg=dict(model_wrapper_cfg=dict(type="rarts_mm.SearchDistributed")),
        checkpoint=resuming.ITERATIONS,
        **resumable(),
    )
    whole = resuming.run(folder / "whole", **copy.deepcopy(several))
    try:
        # Three steps an epoch, a checkpoint every second: back to the middle of the first epoch.
        resuming.run(folder / "parts", custom_hooks=[resuming.CutOff(3)], **copy.deepcopy(several))
    except KeyboardInterrupt:
        torch.distributed.barrier()
    parts = resuming.run(folder / "parts", resume=True, **several)
    return dict(whole=whole.model.module.state_dict(), parts=parts.model.module.state_dict())


def main(folder: Path, what: str) -> None:
    torch.distributed.init_process_group("gloo")
    rank, world_size = get_dist_info()
    if what == "cells":
        cells = {
            (space, synchronised): train_cells(rank, world_size, space, synchronised)
            for space in searches.SPACES
            for synchronised in (False, True)
        }
        torch.save(cells, folder / f"cells{rank}.pth")
        return
    steps = {case: train(rank, world_size, *case) for case in CASES}
    torch.save(steps, folder / f"steps{rank}.pth")
    norms = {name: normalise(rank, world_size, name) for name in NORMS}
    torch.save(norms, folder / f"norms{rank}.pth")
    torch.save(run(folder), folder / f"run{rank}.pth")
    torch.save(cut_off_and_resume(folder), folder / f"resumed{rank}.pth")


if __name__ == "__main__":
    command_line.run(lambda: main(Path(sys.argv[1]), sys.argv[2]))
