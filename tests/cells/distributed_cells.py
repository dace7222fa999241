"""Steps of cell searches in this process' share; for torchrun.

python -m torch.distributed.run --nproc_per_node=2 tests/cells/distributed_cells.py FOLDER
writes FOLDER/cells<N>.pth in process N.
"""

import sys
from pathlib import Path

import torch
from mmengine.dist import get_dist_info

from rarts_mm.engine import SearchDistributed
from tests import tiny
from tests.cells.searches import SPACES, batches, small
from tests.engine.distributed_search import share

STEPS = 2


def train(rank: int, world_size: int, space: str) -> dict:
    """Search for a few steps, norms in evaluation mode; return alpha, the model and the optimisers.

    In training mode each process normalises its own images: half a batch is another computation.
    """
    model = small(space, space=dict(relaxation=dict(type="Sigmoid")))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            if not module.track_running_stats:
                # Statistics that do not depend on the batch.
                module.register_buffer("running_mean", torch.zeros(module.num_features).double())
                module.register_buffer("running_var", torch.ones(module.num_features).double())
                module.track_running_stats = True
            module.eval()
    wrapped = SearchDistributed(model) if world_size > 1 else model
    wrapper = tiny.wrap(wrapped, lam=0.7, beta=0.3, penalty=dict(type="ZeroOnePenalty", gamma=0.5))
    for step in range(STEPS):
        parts = {half: share(b, rank, world_size) for half, b in batches(4, 2 * step).items()}
        wrapped.train_step(parts, wrapper)
    return dict(model=model.state_dict(), optimizer=wrapper.state_dict())


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank, world_size = get_dist_info()
    states = {space: train(rank, world_size, space) for space in SPACES}
    torch.save(states, folder / f"cells{rank}.pth")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
