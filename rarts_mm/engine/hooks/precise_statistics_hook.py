"""Batch norm statistics of the weights that a search ends with."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmpretrain.engine.hooks.precise_bn_hook import update_bn_stats
from torch.nn.modules.batchnorm import _BatchNorm

from rarts_mm.registry import HOOKS
from rarts_mm.search import AUXILIARY, PRIMARY


@HOOKS.register_module()
class PreciseStatisticsHook(Hook):
    """After the last epoch, recomputes the running statistics of u and w, each on its own half.

    Running averages trail behind weights that move; with the weights at rest the mean over batches is
    what the network will see (Wu and Johnson, Rethinking "Batch" in BatchNorm, section 3). The means
    are those of MMPretrain's ``update_bn_stats``; its own hook would run the kept network only, and
    on the longer half. Layers that are frozen (``norm_eval``) stay as they are.

    Args:
        num_samples: number of images to compute them from, at most the half.
    """

    # Before the checkpoint of the epoch is written.
    priority = "ABOVE_NORMAL"

    def __init__(self, num_samples: int = 8192) -> None:
        if num_samples < 1:
            raise ValueError(
                f"PreciseStatisticsHook: num_samples must be at least 1, got {num_samples}"
            )
        self.num_samples = num_samples

    def after_train_epoch(self, runner) -> None:
        if not self.is_last_train_epoch(runner):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for name in (AUXILIARY, PRIMARY):
            network = getattr(model, name)
            if network is None:
                continue
            loader = runner.train_loop.loaders[name]
            # The shorter half starts again within an epoch: no image counts twice.
            number = min(self.num_samples, len(loader.dataset))
            number = max(number, _batch_size(loader) * runner.world_size)
            if any(isinstance(m, _BatchNorm) and m.training for m in network.modules()):
                update_bn_stats(network, _Sized(loader), number, logger=runner.logger)


def _batch_size(loader) -> int:
    return loader.batch_size or loader.batch_sampler.batch_size


class _Sized:
    """A loader that knows its batch size also where a batch sampler makes the batches."""

    def __init__(self, loader) -> None:
        self.loader = loader
        self.batch_size = _batch_size(loader)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self):
        return iter(self.loader)
