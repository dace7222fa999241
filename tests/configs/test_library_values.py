"""Configs that the libraries ship are never refused, but for what the libraries refuse themselves."""

from pathlib import Path

import mmdet
import mmpretrain
import pytest
from mmengine.registry import DefaultScope

from rarts_mm.apis import UsageError, read_config
from rarts_mm.apis.configs import is_search, prepare_registries
from rarts_mm.apis.validation import check_config, check_search
from tests.conftest import CONFIGS

# Every so many: hundreds in all.
EVERY = 4
# What would end in an error of MMEngine's, too.
JUSTIFIED = (
    # Data sets with optional packages, and configs without a default scope.
    "is no registered dataset",
    "is no registered evaluator",
    "model.text_backbone.type='BertModelCN'",
    "model.type='ImageClassifier' is no registered model",
    "is no registered model; did you mean 'mmpretrain.",
    # The Runner refuses them.
    "give all of",
    "train_cfg has neither type nor by_epoch",
    # An argument that the metric does not have.
    "eval_mode of CocoMetric",
)


def shipped(library) -> list[Path]:
    files = sorted((Path(library.__file__).parent / ".mim" / "configs").rglob("*.py"))
    return [path for path in files if "_base_" not in path.parts][::EVERY]


def refusals(path: Path) -> list[str]:
    try:
        cfg = read_config(path)
    except UsageError:
        # Some inherit from files that are not there.
        return []
    if "model" not in cfg:
        return []
    DefaultScope._instance_dict.clear()
    prepare_registries(cfg)
    try:
        check_config(cfg, complete=True)
    except UsageError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        lines = [line for line in lines if not line.endswith("settings make no sense:")]
        return [line for line in lines if not any(words in line for words in JUSTIFIED)]
    return []


@pytest.mark.slow
@pytest.mark.parametrize("library", [mmdet, mmpretrain], ids=lambda library: library.__name__)
def test_configs_of_the_libraries(library):
    paths = shipped(library)
    assert len(paths) > 100
    found = {str(path): lines for path in paths if (lines := refusals(path))}
    assert found == {}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_configs_of_this_package(path):
    cfg = read_config(path)
    prepare_registries(cfg)
    check_config(cfg, complete=True)
    if is_search(cfg):
        check_search(cfg, "baseline", "finetune", complete=True)
