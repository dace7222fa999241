"""Train a detector or classifier: search, baseline or fine-tuning, whatever the config says."""

import argparse
import os
from collections.abc import Sequence

from rarts_mm.apis import command_line, train, training_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=command_line.config_path, help="config file")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from a checkpoint, by default the latest one in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the weights' learning rate with the batch size (alpha's stays)",
    )
    command_line.add_cfg_options(
        parser, "settings of the config to override, e.g. optim_wrapper.beta=0.5"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    # torchrun passes nothing, older launchers pass one of these.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    command_line.add_trust(parser)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with command_line.trusting(args.trust_checkpoint):
        cfg = training_config(
            args.config,
            work_dir=args.work_dir,
            resume=args.resume,
            amp=args.amp,
            auto_scale_lr=args.auto_scale_lr,
            options=args.cfg_options,
            launcher=args.launcher,
        )
        train(cfg)
