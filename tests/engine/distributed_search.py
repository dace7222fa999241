"""Searches in this process' share; for torchrun.

python -m torch.distributed.run --nproc_per_node=2 tests/engine/distributed_search.py FOLDER
writes FOLDER/steps<N>.pth (a few steps on fixed batches), FOLDER/cells<N>.pth (the same of topology
searches) and FOLDER/run<N>.pth (an epoch of the Runner's) in process N.
"""

import sys
from pathlib import Path

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import MODELS as ROOT_MODELS
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.structures import DataSample
from torch import nn

from rarts_mm.engine import SearchDistributed
from tests import tiny
from tests.cells import searches

STEPS, BATCH = 3, 4
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


def train(rank: int, world_size: int, name: str) -> dict:
    """Search for a few steps; return the model's and the optimisers' states."""
    networks, alternation = ALTERNATIONS[name]
    kind = tiny.architecture(head=dict(type=OptionalHead))
    model = tiny.search_model(architecture=kind, networks=networks)
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


def train_cells(rank: int, world_size: int, space: str) -> dict:
    """Search a topology for two steps; return the model's and the optimisers' states.

    Batch norms are in evaluation mode: each process normalises its own images, so that half a batch is
    another computation in training mode.
    """
    model = searches.small(space, space=dict(relaxation=dict(type="Sigmoid")))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if not module.track_running_stats:
                # These would normalise by the batch in evaluation mode too.
                module.register_buffer("running_mean", torch.zeros(module.num_features).double())
                module.register_buffer("running_var", torch.ones(module.num_features).double())
                module.track_running_stats = True
            module.eval()
    wrapped = SearchDistributed(model) if world_size > 1 else model
    penalty = dict(type="ZeroOnePenalty", gamma=0.5)
    wrapper = tiny.wrap(wrapped, lam=0.7, beta=0.3, penalty=penalty)
    for step in range(2):
        batches = searches.batches(BATCH, 2 * step)
        wrapped.train_step({h: share(b, rank, world_size) for h, b in batches.items()}, wrapper)
    return dict(model=model.state_dict(), optimizer=wrapper.state_dict())


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


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank, world_size = get_dist_info()
    steps = {name: train(rank, world_size, name) for name in ALTERNATIONS}
    torch.save(steps, folder / f"steps{rank}.pth")
    cells = {space: train_cells(rank, world_size, space) for space in searches.SPACES}
    torch.save(cells, folder / f"cells{rank}.pth")
    torch.save(run(folder), folder / f"run{rank}.pth")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
