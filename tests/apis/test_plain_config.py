"""The plain config made of a search's: no hook in it that needs a search."""

import pytest
from mmengine.hooks import EMAHook, Hook

from rarts_mm.apis.configs import plain_config, read_config
from rarts_mm.engine import RelaxationHook, SearchHook
from rarts_mm.registry import HOOKS
from tests.conftest import CONFIGS

OF_A_SEARCH = {
    *("ExpectedLatencyHook", "GenotypeHook", "LagrangianHook", "MemoryHook", "NATSLookUpHook"),
    *("PreciseStatisticsHook", "RelaxationHook", "ScoreHook", "SearchRecordHook", "StartUpHook"),
}
OF_ANY_RUN = {
    *(
        "CheckpointFilesHook",
        "CheckpointFitHook",
        "CheckpointKindHook",
        "CommonStatisticsHook",
        "DataHook",
        "DropPathScheduleHook",
    ),
    *(
        "NonFiniteLossHook",
        "PreemptionHook",
        "ProgressHook",
        "RecomputeStatisticsHook",
        "SwinReleaseHook",
    ),
}


class Own(SearchHook):
    """A user's."""


class Other(Hook):
    """Another user's."""


def test_every_hook_says_what_it_needs():
    """A new one has to be put into one of the two lists here, after a thought."""
    own = {n: k for n, k in HOOKS.module_dict.items() if k.__module__.startswith("rarts_mm.")}
    kinds = {name: issubclass(kind, SearchHook) for name, kind in own.items()}
    assert {n for n, searches in kinds.items() if searches} == OF_A_SEARCH
    assert {n for n, searches in kinds.items() if not searches} == OF_ANY_RUN


@pytest.mark.parametrize("recipe", ["baseline", "finetune"])
def test_a_plain_run_has_no_hook_of_a_search(recipe):
    search = read_config(CONFIGS / "sidt_swin_micro_shapes.py")
    search.pop(recipe, None)
    left = [
        *(dict(type=f"rarts_mm.{name}") for name in sorted(OF_ANY_RUN)),
        *(dict(type="EMAHook"), dict(type=EMAHook), dict(type=Other), dict(type="mmdet.NotYet")),
    ]
    search.custom_hooks = [
        *(dict(type=f"rarts_mm.{name}") for name in sorted(OF_A_SEARCH)),
        *(dict(type=name) for name in sorted(OF_A_SEARCH)),
        *(dict(type=RelaxationHook), dict(type=Own, interval=3)),
        *left,
    ]
    assert plain_config(search, recipe).custom_hooks == left
