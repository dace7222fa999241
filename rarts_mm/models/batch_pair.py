"""The two losses of a search model on one pair of batches."""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor

from rarts_mm.search import AUXILIARY, PRIMARY, Problem, frozen_statistics


class BatchPair(Problem):
    """The two losses of a :class:`~rarts_mm.models.SearchModel` on one pair of batches.

    Preprocessing and batch augmentation (mixup, padding to one size) run once here, for the whole of a
    batch however many parts it is computed in; every forward pass then gets samples of its own, as
    losses may overwrite them.

    Args:
        model: the search model.
        data: ``{'auxiliary': batch of D_a, 'primary': batch of D_p}``.
        optim_wrapper: gives the autocast context and ``accumulative_counts``, the number of parts.
    """

    def __init__(self, model, data: dict[str, dict], optim_wrapper) -> None:
        if not isinstance(data, Mapping) or set(data) != {AUXILIARY, PRIMARY}:
            found = sorted(data) if isinstance(data, Mapping) else type(data).__name__
            raise ValueError(
                f"a search step needs one batch of each half, got {found}: use "
                "train_cfg=dict(type='rarts_mm.SearchLoop', ...)"
            )
        self.model = model
        self.optim_wrapper = optim_wrapper
        self._full = False
        self.parts: dict[str, list[dict]] = {}
        self._shares: dict[str, list[float]] = {}
        for half, batch in data.items():
            batch = model.data_preprocessor(batch, training=True)
            self.parts[half] = _split(batch, optim_wrapper.accumulative_counts)
            sizes = [len(part["inputs"]) for part in self.parts[half]]
            self._shares[half] = [size / sum(sizes) for size in sizes]

    def shares(self, half: str) -> Sequence[float]:
        return self._shares[half]

    def loss(self, network: str, half: str, part: int = 0) -> Tensor:
        net = getattr(self.model, network)
        batch = self.parts[half][part]
        samples = copy.deepcopy(batch["data_samples"])
        with nullcontext() if self._full else self.optim_wrapper.optim_context(net):
            losses = net(batch["inputs"], samples, mode="loss")
        total, _ = net.parse_losses(losses)
        return total

    def frozen_statistics(self, network: str) -> AbstractContextManager:
        return frozen_statistics(getattr(self.model, network))

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        self._full = True
        try:
            yield
        finally:
            self._full = False


def _split(batch: dict, parts: int) -> list[dict]:
    """Cut a batch, whose values are lists or tensors of samples, into parts of nearly equal size."""
    if parts == 1:
        return [batch]
    number = len(batch["inputs"])
    parts = min(parts, number)
    bounds = [number * i // parts for i in range(parts + 1)]
    return [
        {key: value if value is None else value[begin:end] for key, value in batch.items()}
        for begin, end in itertools.pairwise(bounds)
    ]
