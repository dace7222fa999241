"""Batch norm statistics of the weights that are tested."""

from mmengine.hooks import Hook
from torch import nn

from rarts_mm.registry import HOOKS

from ..batch_statistics import training_norms, update_statistics
from ..unwrapping import unwrapped


@HOOKS.register_module()
class RecomputeStatisticsHook(Hook):
    """Before a test, recomputes running means and variances on the training data.

    What a pruned network's norms see are not the activations that their running averages are of; weights
    that were averaged (EMA) or masked have the same trouble. Everything but the norms is in evaluation
    mode meanwhile, as in the test that follows: dropout and drop path do not disturb the statistics.
    Norms that training leaves alone (frozen stages, ``norm_eval``) keep theirs.

    Args:
        num_samples: number of training images, at most the data set's; whole batches.

    Raises:
        ValueError: before the test, where the network has no batch norm to recompute.
    """

    # After hooks that put other weights into the model (EMAHook).
    priority = "LOWEST"

    def __init__(self, num_samples: int) -> None:
        if not isinstance(num_samples, int) or num_samples < 1:
            raise ValueError(
                f"the number of images to recompute batch norm statistics from must be at least 1, got "
                f"{num_samples!r}"
            )
        self.num_samples = num_samples

    def before_test_epoch(self, runner) -> None:
        model = unwrapped(runner.model)
        # A search tests one of its networks.
        network = getattr(model, "kept", model)
        norms = _norms_that_train(network)
        if not norms:
            raise ValueError(
                f"{type(network).__name__} has no batch norm whose statistics could be recomputed (it has "
                "none, or they are frozen): test it without"
            )
        loader = runner.build_dataloader(runner.cfg.train_dataloader, seed=runner.seed)
        # Some backbones return nothing from train() and eval().
        network.train(False)
        for norm in norms:
            norm.train()
        number = update_statistics(
            network, loader, self.num_samples, runner.world_size, runner.logger
        )
        network.train(False)
        runner.logger.info(
            "Recomputed the statistics of %d batch norms from %d training images.",
            *(len(norms), number),
        )


def _norms_that_train(network: nn.Module) -> list[nn.Module]:
    network.train()
    return training_norms(network)
