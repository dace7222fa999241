"""The training loop of a search: two halves of one data set, one batch of each per step."""

import copy
from collections.abc import Mapping, Sequence
from logging import WARNING

from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from rarts_mm.datasets import check_halves, split_halves
from rarts_mm.registry import LOOPS
from rarts_mm.search import AUXILIARY, PRIMARY

from .caches import caching_transforms
from .checkpoints import read_seed, resume_from_whole_file
from .half_batches import HalfBatches, SeededDataset
from .hooks.checkpoint_files_hook import CheckpointFilesHook
from .hooks.checkpoint_fit_hook import CheckpointFitHook
from .hooks.common_statistics_hook import CommonStatisticsHook
from .hooks.data_hook import DataHook
from .hooks.lagrangian_hook import LagrangianHook
from .hooks.memory_hook import MemoryHook
from .hooks.non_finite_hook import NonFiniteLossHook
from .hooks.relaxation_hook import RelaxationHook
from .hooks.search_record_hook import SearchRecordHook
from .hooks.start_up_hook import StartUpHook
from .seeding import Stream, seed_process

# Distance of the seeds that the two halves are shuffled with, beyond any count of epochs: with the
# same seed image k of one half would meet image k of the other.
_SEED_OFFSET = 1_000_003


@LOOPS.register_module()
class SearchLoop(EpochBasedTrainLoop):
    """Epoch-based loop over the halves D_a and D_p of the training set (thesis, section 2.2).

    ``train_dataloader`` is the base config's; its data set is split into two disjoint random halves,
    the same on every rank, and each step gets one batch of the configured size from each (times the
    optim wrapper's ``accumulative_counts``, which computes it in so many parts). One epoch is one pass
    over the longer half; the shorter starts again, shuffled anew. ``dataloader`` is the longer half's
    loader; both have the length of the epoch, for schedulers and the ETA.

    All that is random in a step or in a sample is drawn from the run's seed and the position in the
    run alone. A resumed search therefore is the uninterrupted one, also from the middle of an epoch
    (``CheckpointHook(by_epoch=False)``).

    Args:
        split: ``dict(ratio=0.5, seed=0)``: the primary half's share of the data and the seed.
        strict_resume: whether resuming with another split, seed, world size, batch size or alternation
            is an error; otherwise a warning.
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
        strict_resume: bool = True,
    ) -> None:
        if not isinstance(dataloader, dict):
            raise TypeError(
                "SearchLoop splits the data set itself and needs train_dataloader as a config, got "
                f"{type(dataloader).__name__}"
            )
        if isinstance(max_epochs, bool) or not isinstance(max_epochs, int) or max_epochs < 1:
            raise ValueError(
                f"train_cfg.max_epochs={max_epochs!r} must be a whole number >= 1: epochs of the search"
            )
        _prepare_resuming(runner)
        parts = _micro_batches(runner.optim_wrapper)
        dataloader = dict(dataloader, batch_size=dataloader["batch_size"] * parts)
        batch_size = dataloader["batch_size"]
        primary, auxiliary, self.split = split_halves(dataloader["dataset"], **(split or {}))
        check_halves(self.split, {PRIMARY: batch_size, AUXILIARY: batch_size}, runner.world_size)
        self.seed = _common_seed(runner)
        self.loaders = {
            half: _build_loader(runner, dataloader, dataset, self.seed, number)
            for number, (half, dataset) in enumerate(((AUXILIARY, auxiliary), (PRIMARY, primary)))
        }
        longer = max(self.loaders.values(), key=len)
        for loader in self.loaders.values():
            loader.batch_sampler.length = len(longer)
        super().__init__(runner, longer, max_epochs, val_begin, val_interval, dynamic_intervals)
        self._pipeline = getattr(longer.dataset, "pipeline", None)
        if names := caching_transforms(longer.dataset):
            print_log(
                f"{', '.join(names)} mix in images of earlier steps from a cache, which no checkpoint "
                "holds: a resumed search will not be the uninterrupted one to the last bit.",
                logger="current",
                level=WARNING,
            )
        self._record = SearchRecordHook(
            dict(
                split=self.split,
                seed=self.seed,
                world_size=runner.world_size,
                batch_size=batch_size,
                accumulative_counts=parts,
                length=len(longer),
            ),
            strict=strict_resume,
        )
        # What a search cannot do without does not depend on the config's list of hooks.
        own = (
            *(NonFiniteLossHook, MemoryHook, StartUpHook, LagrangianHook, CheckpointFilesHook),
            *(RelaxationHook, CommonStatisticsHook, DataHook, CheckpointFitHook),
        )
        for hook in (self._record, *(kind() for kind in own)):
            if not any(type(other) is type(hook) for other in runner.hooks):
                runner.register_hook(hook)

    def run(self) -> nn.Module:
        """Launch training, where the checkpoint that was loaded left off."""
        self._find_place()
        self.runner.call_hook("before_train")
        if self._validation_is_missing() and self._validation_is_due():
            self.runner.logger.info(
                "Validating epoch %d first: the checkpoint was saved before that.", self._epoch
            )
            self._validate()
        try:
            while self._epoch < self._max_epochs and not self.stop_training:
                self.run_epoch()
                if self._validation_is_due():
                    self._validate()
        finally:
            # Persistent workers end now: garbage collection would wait in vain for each of them.
            for loader in self.loaders.values():
                loader._iterator = None
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Iterate one epoch of pairs of batches, or what is left of it."""
        self.runner.call_hook("before_train_epoch")
        self._follow_pipeline()
        self.runner.model.train()
        start = self._iter - self._epoch * len(self.dataloader)
        if start < len(self.dataloader):
            self._set_batches(start)
            pairs = zip(self.loaders[AUXILIARY], self.loaders[PRIMARY], strict=True)
            for idx, (batch_a, batch_p) in enumerate(pairs, start):
                self.run_iter(idx, {AUXILIARY: batch_a, PRIMARY: batch_p})
        # Hooks may go through the data once more.
        self._set_batches(0)
        seed_process(Stream.EPOCH_END, self.seed, get_rank(), self._epoch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: dict[str, dict]) -> None:
        """One step of the search, with random draws that depend on its number alone."""
        seed_process(Stream.STEP, self.seed, get_rank(), self._iter)
        if hasattr(self.runner.optim_wrapper, "begin_step"):
            self.runner.optim_wrapper.begin_step(epoch=self._epoch, iteration=self._iter)
        super().run_iter(idx, data_batch)

    def _set_batches(self, start: int) -> None:
        for loader in self.loaders.values():
            loader.batch_sampler.epoch, loader.batch_sampler.start = self._epoch, start

    def _find_place(self) -> None:
        """See that the resumed counts fit this run's epochs, which another batch size makes longer."""
        length = len(self.dataloader)
        recorded = (self._record.resumed or {}).get("length", length)
        if recorded == length and 0 <= self._iter - self._epoch * length <= length:
            return
        # An iteration's checkpoint at the very end of an epoch does not count it as done.
        self._epoch = max(self._epoch, self._iter // recorded)
        self._iter = self._epoch * length
        self.runner.logger.warning(
            "An epoch had %d steps and has %d now: going on at the start of epoch %d, iteration %d.",
            *(recorded, length, self._epoch + 1, self._iter),
        )

    def _validation_is_missing(self) -> bool:
        """Whether the run was killed between an epoch's checkpoint and the end of its validation.

        Checkpoints of an epoch are written before its validation, whose results the log and the choice
        of the best model need.
        """
        resumed = self._record.resumed
        at_end = self._iter == self._epoch * len(self.dataloader) and self._epoch > 0
        return bool(resumed) and at_end and resumed.get("validated", self._epoch) < self._epoch

    def _validation_is_due(self) -> bool:
        self._decide_current_val_interval()
        if self.runner.val_loop is None or self._epoch < self.val_begin:
            return False
        return self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs

    def _validate(self) -> None:
        # A run that was resumed at the very end of an epoch has made no step before it.
        seed_process(Stream.EPOCH_END, self.seed, get_rank(), self._epoch)
        self.runner.val_loop.run()

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


def _prepare_resuming(runner) -> None:
    """Choose the checkpoint to resume from, and take its seed over unless the config gives one.

    The Runner would do so when the loaders have been built already.
    """
    path = resume_from_whole_file(runner)
    if path is None or runner._randomness_cfg.get("seed") is not None:
        return
    if (seed := read_seed(path)) is not None:
        runner._randomness_cfg = dict(runner._randomness_cfg, seed=seed)
        runner.set_randomness(**runner._randomness_cfg)


def _common_seed(runner) -> int:
    """The seed that the runs' ranks share; the Runner may have added the rank to it."""
    different = runner._randomness_cfg.get("diff_rank_seed", False)
    return runner.seed - get_rank() if different else runner.seed


def _micro_batches(optim_wrapper: object) -> int:
    """In how many parts the optim wrapper, a config as yet, wants each step's batches."""
    if isinstance(optim_wrapper, Mapping):
        weights = optim_wrapper.get("weights")
        # What is no config is refused where the optimisers are built.
        given = weights.get("accumulative_counts", 1) if isinstance(weights, Mapping) else 1
        parts = optim_wrapper.get("accumulative_counts", given)
    else:
        parts = getattr(optim_wrapper, "accumulative_counts", 1)
    if isinstance(parts, bool) or not isinstance(parts, int) or parts < 1:
        raise ValueError(
            f"optim_wrapper.accumulative_counts={parts!r} must be a whole number >= 1: in so many "
            "parts, each of train_dataloader.batch_size, a step's batch is computed"
        )
    return parts


def _build_loader(runner, dataloader: dict, dataset: object, seed: int, half: int) -> DataLoader:
    cfg = {k: copy.deepcopy(v) for k, v in dataloader.items() if k != "dataset"}
    inner = cfg.pop("batch_sampler", None)
    cfg["batch_sampler"] = dict(
        type=HalfBatches,
        batch_sampler=inner,
        drop_last=cfg.pop("drop_last", False) if inner is None else False,
        seed=seed,
        rank=get_rank(),
        half=half,
    )
    return runner.build_dataloader(
        dict(cfg, dataset=SeededDataset(dataset)), seed=seed + half * _SEED_OFFSET
    )
