"""The training loop of a search: two halves of one data set, one batch of each per step."""

import copy
from collections.abc import Iterator, Sequence

from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from rarts_mm.datasets import check_halves, split_halves
from rarts_mm.registry import LOOPS
from rarts_mm.search import AUXILIARY, PRIMARY

from .hooks.memory_hook import MemoryHook
from .hooks.non_finite_hook import NonFiniteLossHook
from .hooks.split_hook import SplitHook

# Distance of the two halves' data seeds, beyond any count of ranks times workers: with the same seed
# both halves would draw the same augmentations at the same positions.
_SEED_OFFSET = 1_000_003


@LOOPS.register_module()
class SearchLoop(EpochBasedTrainLoop):
    """Epoch-based loop over the halves D_a and D_p of the training set (thesis, section 2.2).

    ``train_dataloader`` is the base config's; its data set is split into two disjoint random halves,
    the same on every rank, and each step gets one batch of the configured size from each. One epoch
    is one pass over the longer half; the shorter starts again, with an epoch count of its own.
    ``dataloader`` is the longer half's loader, so that schedulers and the ETA see the true length.

    Args:
        split: ``dict(ratio=0.5, seed=0)``: the primary half's share of the data and the seed.
        max_epochs, val_begin, val_interval, dynamic_intervals: as in MMEngine's loop.
    """

    def __init__(
        self,
        runner,
        dataloader: dict,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        split: dict | None = None,
    ) -> None:
        if not isinstance(dataloader, dict):
            raise TypeError(
                "SearchLoop splits the data set itself and needs train_dataloader as a config, got "
                f"{type(dataloader).__name__}"
            )
        primary, auxiliary, self.split = split_halves(dataloader["dataset"], **(split or {}))
        batch_size = dataloader["batch_size"]
        check_halves(self.split, {PRIMARY: batch_size, AUXILIARY: batch_size}, runner.world_size)
        self.loaders = {
            half: _build_loader(runner, dataloader, dataset, offset)
            for half, dataset, offset in (
                (AUXILIARY, auxiliary, 0),
                (PRIMARY, primary, _SEED_OFFSET),
            )
        }
        longer = max(self.loaders.values(), key=len)
        super().__init__(runner, longer, max_epochs, val_begin, val_interval, dynamic_intervals)
        self._pipeline = getattr(longer.dataset, "pipeline", None)
        # What a search cannot do without does not depend on the config's list of hooks.
        for hook in (SplitHook(self.split), NonFiniteLossHook(), MemoryHook()):
            if not any(type(other) is type(hook) for other in runner.hooks):
                runner.register_hook(hook)

    def run_epoch(self) -> None:
        """Iterate one epoch of pairs of batches."""
        self.runner.call_hook("before_train_epoch")
        self._follow_pipeline()
        self.runner.model.train()
        ordered = (self.loaders[AUXILIARY], self.loaders[PRIMARY])
        halves = [_endless(loader, self._epoch, len(self.dataloader)) for loader in ordered]
        for idx, (batch_a, batch_p) in enumerate(zip(*halves, strict=True)):
            self.run_iter(idx, {AUXILIARY: batch_a, PRIMARY: batch_p})
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _follow_pipeline(self) -> None:
        """Give both halves the pipeline that a hook gave to ``dataloader`` (PipelineSwitchHook)."""
        pipeline = getattr(self.dataloader.dataset, "pipeline", None)
        for loader in self.loaders.values():
            dataset = loader.dataset
            if loader is self.dataloader or not hasattr(dataset, "pipeline"):
                continue
            if self._pipeline is not pipeline:
                dataset.pipeline = pipeline
                # Persistent workers hold the old one: new ones start with the next pass.
                loader._iterator = None
        self._pipeline = pipeline


def _build_loader(runner, dataloader: dict, dataset, seed_offset: int) -> DataLoader:
    cfg = {k: copy.deepcopy(v) for k, v in dataloader.items() if k != "dataset"}
    return runner.build_dataloader(
        dict(cfg, dataset=dataset),
        seed=None if runner.seed is None else runner.seed + seed_offset,
        diff_rank_seed=runner._randomness_cfg.get("diff_rank_seed", False),
    )


def _endless(loader: DataLoader, epoch: int, length: int) -> Iterator:
    """``length`` batches of a loader, started again as often as needed.

    Every pass has a number that depends on the epoch and the position alone, so that a resumed run
    shuffles as an uninterrupted one does.
    """
    passes = -(-length // len(loader))
    given = 0
    for i in range(passes):
        _set_epoch(loader, epoch * passes + i)
        for batch in loader:
            yield batch
            given += 1
            if given == length:
                return


def _set_epoch(loader: DataLoader, epoch: int) -> None:
    sampler = loader.sampler
    if not hasattr(sampler, "set_epoch"):
        sampler = getattr(loader.batch_sampler, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
