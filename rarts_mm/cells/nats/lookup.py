"""What NATS-Bench has measured of an architecture, through its own package ``nats_bench``."""

import importlib
import math
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .architecture import NATSArchitecture

FOLDER = "NATS-tss-v1_0-3ffb9-simple"
DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
_INSTALL = "pip install nats_bench, or pip install 'rarts_mm[nats]'"


class LookUpUnavailable(RuntimeError):
    """The benchmark's package or files are not there, or cannot be read."""


def expected_path() -> Path:
    """Where the benchmark's files are looked for: ``$TORCH_HOME``, as its package does it."""
    home = os.environ.get("TORCH_HOME") or "~/.torch"
    return Path(home).expanduser() / FOLDER


class LookUp:
    """Accuracies of the benchmark's trained networks.

    The files are pickles, which run code when they are read: give a path that you trust.

    Args:
        path: folder of the benchmark's files, one per architecture (``...-simple``); default:
            :func:`expected_path`.

    Raises:
        LookUpUnavailable: no package ``nats_bench``, or no such folder; says which and what to do.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else expected_path()
        # What is missing is said all at once.
        missing = []
        try:
            package = importlib.import_module("nats_bench")
        except ModuleNotFoundError as error:
            if error.name != "nats_bench":
                raise
            missing.append(f"the package nats_bench is not installed ({_INSTALL})")
        if not (self.path / "meta.pickle.pbz2").is_file():
            missing.append(
                f"no benchmark in {self.path} (meta.pickle.pbz2 is expected there); unpack "
                f"{FOLDER}.tar of https://github.com/D-X-Y/NATS-Bench and set TORCH_HOME to the folder "
                "that holds it"
            )
        if missing:
            raise LookUpUnavailable(f"NATS-Bench cannot be looked up: {'; '.join(missing)}")
        with self._reading("meta.pickle.pbz2"):
            self._api = package.create(str(self.path), "tss", fast_mode=True, verbose=False)

    def index(self, architecture: NATSArchitecture | str) -> int:
        """The benchmark's index of an architecture.

        Raises:
            ValueError: a malformed string, or one that the benchmark's files do not know.
        """
        text = NATSArchitecture.parse(architecture).text()
        index = int(self._api.query_index_by_arch(text))
        if index < 0:
            raise ValueError(f"the benchmark in {self.path} has no architecture {text}")
        return index

    def accuracy(self, architecture: NATSArchitecture | str, dataset: str = "cifar10") -> float:
        """Test accuracy in per cent after 200 epochs on the whole training set, mean over the seeds.

        Args:
            architecture: string, or :class:`NATSArchitecture`.
            dataset: one of :data:`DATASETS`.

        Raises:
            ValueError: another data set, or an unknown architecture.
            LookUpUnavailable: no file, or no number, of this architecture.
        """
        if dataset not in DATASETS:
            raise ValueError(
                f"dataset {dataset!r}: NATS-Bench has test accuracies of {', '.join(DATASETS)}"
            )
        index = self.index(architecture)
        names = [f"{index:06d}.pickle.pbz2", f"{index}.pickle.pbz2"]
        file = next((name for name in names if (self.path / name).is_file()), None)
        if file is None:
            raise LookUpUnavailable(
                f"NATS-Bench cannot be looked up: no file {self.path / names[0]} of architecture "
                f"{index}; unpack the whole of {FOLDER}.tar"
            )
        # The defaults mislead: 12 epochs, one seed at random.
        with self._reading(file):
            record = self._api.get_more_info(index, dataset, hp="200", is_random=False)
        accuracy = record.get("test-accuracy")
        if accuracy is None or not math.isfinite(accuracy):
            raise LookUpUnavailable(
                f"NATS-Bench has no test accuracy of architecture {index} on {dataset} after 200 epochs"
            )
        return float(accuracy)

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
            raise LookUpUnavailable(
                f"NATS-Bench cannot be looked up: {self.path / name} is no file of the benchmark, or "
                f"cut short ({type(error).__name__}: {error}); unpack {FOLDER}.tar again"
            ) from error
