"""The config that trains a derived architecture from scratch."""

import copy
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import nn

from rarts_mm.analysis.complexity import count_flops, count_parameters
from rarts_mm.cells import NATSArchitecture
from rarts_mm.cells.architecture import Architecture
from rarts_mm.cells.genotype import Genotype

from .configs import prepare_registries, read_config
from .errors import UsageError
from .input_size import input_size, searched_size
from .validation import check_config

CIFAR, IMAGENET = "cifar", "imagenet"
CONFIGS = Path(__file__).parents[2] / "configs"
# Type of an architecture -> the argument of a backbone that takes its text. A further space adds its own.
TAKERS: dict[type, str] = {Genotype: "genotype", NATSArchitecture: "architecture"}
# By the type of the search's data set; its data go on where both are CIFAR's.
_CIFAR_CONFIGS = {"CIFAR100": "darts_retrain_cifar100.py", "CIFAR10": "darts_retrain_cifar10.py"}
_IMAGENET_CONFIG = "darts_retrain_imagenet.py"
# What says which images a data set holds, but not how they are transformed.
_DATA_KEYS = ("type", "data_root", "data_prefix", "metainfo", "classes", "download")
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def retraining_config(
    architecture: Architecture, network: str | None, search: Config, options: dict | None = None
) -> Config | None:
    """The self-contained config that trains an architecture; None if no network is asked for it.

    It has no work dir.

    Args:
        architecture: what the search derived, of a type in ``TAKERS``.
        network: ``'cifar'``, ``'imagenet'`` (both for genotypes only), or the path of a config whose
            ``model.backbone`` takes the architecture; None: CIFAR's for a genotype, none for others.
        search: config of the search; if both are CIFAR's, its data set goes on.
        options: settings of the retraining config to override.

    Raises:
        UsageError: no such network, or a config that cannot hold the architecture.
        ValueError: the network cannot be built, or its training images are too small for it.
    """
    is_genotype = isinstance(architecture, Genotype)
    if network is None and not is_genotype:
        return None
    key = TAKERS.get(type(architecture))
    if key is None or (network in (CIFAR, IMAGENET) and not is_genotype):
        raise UsageError(
            f"--network {network}: that one is of DARTS cells, the search derives a "
            f"{type(architecture).__name__}. Leave the option out, or give the path of a config whose "
            f"model.backbone has {key or 'it'} as an argument"
        )
    path = _config_file(network or CIFAR, search)
    cfg = read_config(path, options)
    if key not in (cfg.get("model") or {}).get("backbone", {}):
        raise UsageError(
            f"--network {path}: its model.backbone has no {key} to fill in; give a config like "
            f"{_CIFAR_CONFIGS['CIFAR10']}"
        )
    prepare_registries(cfg)
    check_config(cfg, "retraining config")
    if _is_cifar(cfg) and _is_cifar(search):
        _take_data_over(cfg, search)
        cfg.merge_from_dict(options or {})
    cfg.model.backbone[key] = architecture.text()
    with torch.device("meta"):
        backbone = MODELS.build(copy.deepcopy(cfg.model.backbone))
    if "model.head.in_channels" not in (options or {}):
        # It depends on how many nodes the normal cell concatenates.
        cfg.model.head.in_channels = backbone.out_channels
    if (size := searched_size(cfg)) is not None and hasattr(backbone, "check_size"):
        # Here, and not in the first step of the training.
        backbone.check_size(*size, training=True)
    return _self_contained(cfg)


def network_costs(cfg: Config, search: Config) -> dict[str, Any]:
    """Parameters and multiply-adds of the network that a retraining config trains.

    Args:
        cfg: the retraining config.
        search: the search's, whose images' size is taken where ``cfg`` names no data.

    Returns:
        ``parameters`` and ``flops`` of what is left for testing, ``auxiliary_parameters`` of what is
        there in training only, and ``size``, (height, width) of the images in pixels. Without ``flops``
        and ``size`` where neither config names data.
    """
    prepare_registries(cfg)
    model_cfg = copy.deepcopy(cfg.model)
    if cfg.get("data_preprocessor") is not None:
        model_cfg.setdefault("data_preprocessor", cfg.data_preprocessor)
    model = MODELS.build(model_cfg)
    auxiliary = sum(count_parameters(module) for module in _training_only(model))
    costs = dict(parameters=count_parameters(model) - auxiliary, auxiliary_parameters=auxiliary)
    data = next(filter(_has_data, (cfg, search)), None)
    if data is None:
        return costs
    size = searched_size(data) or input_size(data)
    return dict(costs, flops=count_flops(model, size).total, size=list(size))


def _has_data(cfg: Config) -> bool:
    return any(cfg.get(f"{phase}_dataloader") for phase in ("train", "val", "test"))


def _training_only(model: nn.Module) -> Iterator[nn.Module]:
    for part, name in (("backbone", "tower"), ("head", "fc_auxiliary")):
        module = getattr(getattr(model, part, None), name, None)
        if module is not None:
            yield module


def _config_file(network: str, search: Config) -> Path:
    if network == CIFAR:
        return _shipped(_CIFAR_CONFIGS[cifar_name(search) or "CIFAR10"])
    if network == IMAGENET:
        return _shipped(_IMAGENET_CONFIG)
    path = Path(network)
    if not path.is_file():
        raise UsageError(
            f"--network {network}: no such network, and no such file; give {CIFAR}, {IMAGENET} or the "
            "path of a retraining config"
        )
    return path


def _shipped(name: str) -> Path:
    path = CONFIGS / name
    if not path.is_file():
        raise UsageError(
            f"{path} is missing; it comes with this project's sources. Give --network the path of a "
            "retraining config"
        )
    return path


def _leaves(dataset: dict | None) -> Iterator[dict]:
    """The data sets inside wrappers."""
    inner = (dataset or {}).get("dataset") or (dataset or {}).get("datasets")
    if not inner:
        if dataset:
            yield dataset
        return
    for each in inner if isinstance(inner, list | tuple) else [inner]:
        yield from _leaves(each)


def _dataset(cfg: Config, loader: str) -> dict | None:
    return next(_leaves((cfg.get(loader) or {}).get("dataset")), None)


def cifar_name(cfg: Config) -> str | None:
    """``'CIFAR10'`` or ``'CIFAR100'``, also of a class derived from it; None for other data."""
    dataset = _dataset(cfg, "train_dataloader") or {}
    kind = dataset.get("type")
    if isinstance(kind, str):
        scope, _, name = kind.rpartition(".")
        with DATASETS.switch_scope_and_registry(scope or cfg.get("default_scope")) as registry:
            kind = registry.get(name)
    names = [base.__name__ for base in getattr(kind, "__mro__", ())]
    return next((name for name in _CIFAR_CONFIGS if name in names), None)


def _is_cifar(cfg: Config) -> bool:
    return cifar_name(cfg) is not None


def _take_data_over(cfg: Config, search: Config) -> None:
    for loader in _LOADERS:
        ours, theirs = _dataset(cfg, loader), _dataset(search, loader)
        if ours is not None and theirs is not None:
            ours.update({k: copy.deepcopy(theirs[k]) for k in _DATA_KEYS if k in theirs})
    head = search.model.architecture.get("head") or {}
    if (classes := head.get("num_classes")) is not None:
        cfg.model.head.num_classes = classes
        if cfg.get("data_preprocessor") is not None:
            cfg.data_preprocessor.num_classes = classes
    cfg.how_to_get = search.get("how_to_get")


def _self_contained(cfg: Config) -> Config:
    """Without what the config's own text needed only while it was read."""
    known = {*inspect.signature(Runner.__init__).parameters, "custom_imports", "how_to_get"}
    kept = {k: v for k, v in cfg.to_dict().items() if k in known and v is not None}
    for key in ("load_from", "work_dir"):
        kept.pop(key, None)
    return Config(kept)
