"""Test a checkpoint: a baseline, a pruned model, or the kept network of a search."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rarts_mm.apis import checkpoint_in, command_line, evaluate, read_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=command_line.config_path, help="config file")
    parser.add_argument("checkpoint", help="checkpoint file, or the work dir that holds it")
    parser.add_argument("--work-dir", help="folder for logs and results")
    parser.add_argument("--out", help="pickle file for the predictions")
    parser.add_argument("--show-dir", help="folder for pictures with the predictions drawn in")
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: the config's tta_model and tta_pipeline, else mirror images",
    )
    parser.add_argument(
        "--precise-bn",
        type=int,
        metavar="N",
        help="recompute batch norm statistics from N training images first",
    )
    command_line.add_cfg_options(parser, "override settings")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    command_line.add_trust(parser)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.out:
        if not args.out.endswith((".pkl", ".pickle")):
            raise command_line.UsageError(f"--out must be a .pkl file, got {args.out!r}")
        evaluators = cfg.get("test_evaluator") or []
        evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
        cfg.test_evaluator = [
            *evaluators,
            dict(type="mmdet.DumpDetResults", out_file_path=args.out),
        ]
        if cfg.get("default_scope") != "mmdet":
            cfg.test_evaluator[-1]["type"] = "DumpResults"
    if args.show_dir:
        hooks = cfg.get("default_hooks") or {}
        classifies = cfg.get("default_scope") == "mmpretrain"
        if not hooks.get("visualization"):
            hook = "VisualizationHook" if classifies else "DetVisualizationHook"
            hooks["visualization"] = dict(type=hook)
        drawn = dict(draw=True, test_out_dir=args.show_dir)
        if classifies:
            drawn = dict(enable=True, out_dir=args.show_dir)
        hooks["visualization"].update(drawn)
        cfg.default_hooks = hooks
        # MMEngine's own, which a config without one gets, draws no classes and no boxes.
        if (cfg.get("visualizer") or {}).get("type", "Visualizer") == "Visualizer":
            kind = "UniversalVisualizer" if classifies else "DetLocalVisualizer"
            cfg.visualizer = dict(cfg.get("visualizer") or {}, type=kind)
    work_dir = args.work_dir or cfg.get("work_dir") or Path("work_dirs") / Path(args.config).stem
    with command_line.trusting(args.trust_checkpoint):
        checkpoint = checkpoint_in(args.checkpoint)
        return evaluate(cfg, checkpoint, work_dir, args.precise_bn, args.tta)
