"""The batches of one half in an epoch, and the seeds of their samples."""

from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import NamedTuple

from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler

from .seeding import Stream, seed_sample


class Draw(NamedTuple):
    """A sample, and what its pipeline's draws depend on.

    Attributes:
        index: what the sampler gave, an index of the data set as a rule.
        key: seed, rank, half, pass over the half, position in the pass.
    """

    index: object
    key: tuple[int, ...]


class SeededDataset:
    """A data set whose pipeline draws the same for the same :class:`Draw`, in whichever process.

    To everybody else it is the data set: attributes are read from and written to it, and it passes
    for an instance of its class.
    """

    def __init__(self, dataset: object) -> None:
        object.__setattr__(self, "_dataset", dataset)

    def __getitem__(self, index: object) -> object:
        if not isinstance(index, Draw):
            return self._dataset[index]
        seed_sample(Stream.SAMPLE, *index.key)
        return self._dataset[index.index]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> object:
        # Special methods (fetching many at once, pickling) would go past the seeds.
        if name == "_dataset" or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._dataset, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._dataset, name)

    @property
    def __class__(self) -> type:
        return self._dataset.__class__

    def __reduce__(self) -> tuple:
        return SeededDataset, (self._dataset,)


class _Pass(Sampler):
    """One pass over an endless sampler that can skip, such as MMEngine's InfiniteSampler."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._number = 0

    def set_epoch(self, number: int) -> None:
        self._number = number

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator:
        self._sampler.skip(self._number * len(self))
        return islice(self._sampler, len(self))

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._sampler, name)


class HalfBatches(Sampler):
    """Outermost batch sampler of one half: an epoch's batches, from any of them on.

    Passes over the half follow one another until the epoch is full. The number of a pass depends on
    the epoch alone and the seed of a sample on its place in the pass, so that an epoch entered in its
    middle gives what is left of the same epoch; what was used already is not loaded. Attributes that
    it lacks are those of the batch sampler inside.

    Args:
        sampler, batch_size: as MMEngine gives them to a batch sampler.
        batch_sampler: config of the loader's own batch sampler; None stands for torch's.
        drop_last: of torch's batch sampler.
        seed: the run's seed, the same on all ranks.
        rank: rank of this process.
        half: number of the half.

    Attributes:
        length: batches in an epoch; one pass unless the loop sets it to the longer half's.
        epoch, start: the epoch to come and its first batch.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        batch_sampler: Mapping | None = None,
        drop_last: bool = False,
        *,
        seed: int,
        rank: int,
        half: int,
    ) -> None:
        if hasattr(sampler, "skip"):
            sampler = _Pass(sampler)
        if batch_sampler is None:
            self.batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.batch_sampler = DATA_SAMPLERS.build(
                batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        self.seed, self.rank, self.half = seed, rank, half
        self.length = len(self.batch_sampler)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[Draw]]:
        passes = -(-self.length // len(self.batch_sampler))
        start, given = self.start, 0
        for number in count(self.epoch * passes):
            place = 0
            for batch in self._one_pass(number):
                if given >= start:
                    key = (self.seed, self.rank, self.half, number)
                    yield [Draw(index, (*key, place + i)) for i, index in enumerate(batch)]
                place += len(batch)
                given += 1
                if given == self.length:
                    return

    def _one_pass(self, number: int) -> list[list]:
        """All batches of a pass; a batch sampler that groups keeps nothing for the next pass."""
        inner = self.batch_sampler
        sampler = getattr(inner, "sampler", None)
        for part in (sampler, inner):
            if hasattr(part, "set_epoch"):
                part.set_epoch(number)
        # For those that draw from a global generator; the same on all ranks, which share the order.
        seed_sample(Stream.ORDER, self.seed, self.half, number)
        # One more than there is, so that a finite one comes to its end and cleans up.
        length = len(inner)
        batches = list(islice(inner, length + 1))[:length]
        if not batches:
            raise RuntimeError(
                f"{type(inner).__name__} gave no batch in a whole pass over {len(sampler or ())} "
                "samples; lower the batch size or leave out drop_last"
            )
        return batches

    def __getattr__(self, name: str) -> object:
        if name == "batch_sampler" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)
