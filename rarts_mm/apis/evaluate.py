"""Evaluate a model with its config's own test data and metrics."""

import copy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .configs import is_search, prepare_registries
from .errors import UsageError
from .preflight import check_files
from .search_checkpoint import read_checkpoint


def check_weights_fit(model: torch.nn.Module, state: dict, checkpoint: str | Path) -> None:
    """Raise unless a state dict has every entry of a model, in its shape.

    MMEngine itself would only warn and test random weights.
    """
    expected = model.state_dict()
    bad = [k for k, v in expected.items() if k in state and state[k].shape != v.shape]
    missing = [k for k in expected if k not in state and "num_batches_tracked" not in k]
    if not bad and not missing:
        return
    lines = [
        f"  {k}: {tuple(state[k].shape)} in the file, {tuple(expected[k].shape)} in the model"
        for k in bad[:5]
    ] + [f"  {k}: not in the file" for k in missing[: 5 - min(len(bad), 5)]]
    raise UsageError(
        f"checkpoint {checkpoint} does not fit the model of the config ({len(bad)} entries of another "
        f"shape, {len(missing)} missing):\n"
        + "\n".join(lines)
        + "\nGive the config that belongs to "
        "this checkpoint; a pruned one needs its pruned.py"
    )


def evaluate(cfg: Config, checkpoint: str | Path, work_dir: str | Path) -> dict[str, float]:
    """Test a checkpoint; returns the metrics of the config's ``test_evaluator``.

    Raises:
        UsageError: missing files, or a checkpoint that does not fit the model.
    """
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    cfg.load_from, cfg.resume = None, False
    check_files(cfg, phases=("test",))
    content = read_checkpoint(checkpoint)
    prepare_registries(cfg)
    if is_search(cfg):
        cfg.setdefault("model_wrapper_cfg", dict(type="rarts_mm.SearchDistributed"))
    runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    model = getattr(runner.model, "module", runner.model)
    state = {k.removeprefix("module."): v for k, v in content["state_dict"].items()}
    check_weights_fit(model, state, checkpoint)
    cfg.load_from = runner._load_from = str(checkpoint)
    return runner.test()
