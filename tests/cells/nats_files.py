"""A small benchmark in the format of NATS-tss-v1_0's folder, and a stand-in for its package.

The folder has ``meta.pickle.pbz2``, whose ``meta_archs`` lists the strings in the order of the indices,
and a ``<index>.pickle.pbz2`` for each architecture: results by number of epochs, each with a record for
every data set and seed.
"""

import bz2
import pickle
import types
from pathlib import Path

EPOCHS = 3
NAMES = {"cifar10": "ori-test", "cifar100": "x-test", "ImageNet16-120": "x-test"}


def write(
    folder: Path, strings: list[str], accuracies: dict[int, dict[str, dict[int, float]]]
) -> None:
    """Write a benchmark.

    Args:
        strings: all architectures, by index.
        accuracies: index -> data set -> seed -> test accuracy after "200" epochs. After "12", and in
            the epochs before the last, it is 1 per cent.
    """
    folder.mkdir(parents=True)
    indices = set(range(len(strings)))
    _dump(folder / "meta.pickle.pbz2", dict(meta_archs=strings, evaluated_indexes=indices))
    for index, results in accuracies.items():
        by_epochs = {}
        for hp in ("12", "200"):
            records, seeds = {}, {}
            for dataset, values in results.items():
                seeds[dataset] = list(values)
                for seed, value in values.items():
                    last = value if hp == "200" else 1.0
                    records[dataset, seed] = _record(strings[index], dataset, seed, last)
            by_epochs[hp] = dict(
                arch_index=index,
                arch_str=strings[index],
                all_results=records,
                dataset_seed=seeds,
                clear_net_done=True,
            )
        _dump(folder / f"{index:06d}.pickle.pbz2", by_epochs)


def _record(text: str, dataset: str, seed: int, last: float) -> dict:
    train = dict.fromkeys(range(EPOCHS), 50.0)
    setname = NAMES[dataset]
    accuracies = {f"{setname}@{e}": 1.0 for e in range(EPOCHS)}
    accuracies[f"{setname}@{EPOCHS - 1}"] = last
    return dict(
        name=dataset,
        net_state_dict=None,
        train_acc1es=train,
        train_acc5es=None,
        train_losses=train,
        train_times=train,
        arch_config=dict(channel=16, num_cells=5, arch_str=text, class_num=10),
        params=0.1,
        flop=10.0,
        seed=f"{seed:04d}",
        epochs=EPOCHS,
        latency=[0.01],
        eval_names=[setname],
        eval_acc1es=accuracies,
        eval_times=dict.fromkeys(accuracies, 1.0),
        eval_losses=dict.fromkeys(accuracies, 0.5),
    )


def _dump(path: Path, content: object) -> None:
    with bz2.open(path, "wb") as file:
        pickle.dump(content, file)


def stand_in() -> types.ModuleType:
    """A module ``nats_bench`` with as much as the look-up uses, on the files themselves."""
    module = types.ModuleType("nats_bench")
    module.create = _Topology
    return module


class _Topology:
    def __init__(self, path, search_space, fast_mode=False, verbose=True) -> None:
        # Without the fast mode the package wants one large file, no folder.
        assert (search_space, fast_mode, verbose) == ("tss", True, False)
        self.path = Path(path)
        self.strings = _load(self.path / "meta.pickle.pbz2")["meta_archs"]

    def query_index_by_arch(self, text: str) -> int:
        return self.strings.index(text) if text in self.strings else -1

    def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True) -> dict:
        record = _load(self.path / f"{index:06d}.pickle.pbz2")[hp]
        seeds = record["dataset_seed"][dataset]
        seeds = seeds[:1] if is_random is True else seeds
        epoch = EPOCHS - 1 if iepoch is None else iepoch
        key = f"{NAMES[dataset]}@{epoch}"
        values = [record["all_results"][dataset, seed]["eval_acc1es"][key] for seed in seeds]
        return {"test-accuracy": sum(values) / len(values)}


def _load(path: Path) -> dict:
    with bz2.open(path) as file:
        return pickle.load(file)
