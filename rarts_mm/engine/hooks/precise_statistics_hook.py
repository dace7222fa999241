"""Batch norm statistics of the weights that a search ends with."""

from mmengine.model import is_model_wrapper

from rarts_mm.registry import HOOKS
from rarts_mm.search import AUXILIARY, PRIMARY

from ..batch_statistics import training_norms, update_statistics
from .saving import save_again
from .search_hook import SearchHook


@HOOKS.register_module()
class PreciseStatisticsHook(SearchHook):
    """After the last epoch, recomputes the running statistics of u and w, each on its own half.

    Running averages trail behind weights that move; with the weights at rest the mean over batches is
    what the network will see (Wu and Johnson, Rethinking "Batch" in BatchNorm, section 3). The means
    are those of MMPretrain's ``update_bn_stats``; its own hook would run the kept network only, and
    on the longer half. Layers that are frozen (``norm_eval``) stay as they are.

    Args:
        num_samples: number of images to compute them from, at most the half.
    """

    # Before the checkpoint of the epoch is written; that of its last iteration is written again.
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
        changed = False
        for name in (AUXILIARY, PRIMARY):
            network = getattr(model, name)
            if network is None or not training_norms(network):
                continue
            loader = runner.train_loop.loaders[name]
            update_statistics(network, loader, self.num_samples, runner.world_size, runner.logger)
            changed = True
        if changed:
            save_again(runner)
