"""The losses of a search's network on its training data, for criteria that look at them."""

import copy
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
from mmengine.runner import Runner, set_random_seed
from rich.progress import track
from torch import Tensor, nn

from rarts_mm.widths import scores_of
from rarts_mm.widths.derivatives import Derivatives, measure_derivatives
from rarts_mm.widths.flow.attached import attached

from .configs import plain_config, prepare_registries
from .preflight import check_files
from .search_checkpoint import Search


def derivatives_of(search: Search, images: int, one_by_one: bool) -> Derivatives:
    """What the training loss says about a search's scores.

    The data are those of the fine-tuning, with its pipeline and in a seeded order: a second call returns the
    same.

    Args:
        search: the search.
        images: how many are looked at, at most all.
        one_by_one: whether each image has a loss of its own; else batches are the config's.

    Raises:
        UsageError: the training data are missing.
        ValueError: a loss that is not finite.
    """
    cfg = plain_config(search.cfg, "finetune")
    check_files(cfg, phases=("train",))
    prepare_registries(cfg)
    network = copy.deepcopy(search.network)
    if torch.cuda.is_available():
        network.cuda()
    groups = attached(search.network)
    written = groups and {n: g.written(network) for n, g in groups.groups.items()}
    set_random_seed(0)
    settings = copy.deepcopy(cfg.train_dataloader)
    if one_by_one:
        settings.batch_size = 1
        settings.pop("batch_sampler", None)
    loader = Runner.build_dataloader(settings, seed=0)
    per_batch = loader.batch_size or loader.batch_sampler.batch_size
    count = max(min(-(-images // per_batch), len(loader)), 1)
    batches = itertools.islice(iter(loader), count)
    shown = track(batches, "ranking by the loss", total=count)
    return measure_derivatives(network, scores_of(network), _losses(network, shown), written)


def _losses(network: nn.Module, batches: Iterator) -> Iterator[Callable[[], Tensor]]:
    for batch in batches:
        yield partial(_loss, network, batch)


def _loss(network: nn.Module, batch: dict) -> Tensor:
    # As in training: masks are padded then only.
    data = network.data_preprocessor(batch, training=True)
    loss, _ = network.parse_losses(network(**data, mode="loss"))
    return loss
