"""Which networks can be cut whole: one of each family, with the largest difference of cut and masked network.

    python benchmarks/cut_coverage.py                        # all; goes on where it stopped
    python benchmarks/cut_coverage.py --suite mmdet --only rtmdet
    pip install --no-deps torch-pruning                  # for the column of a peer

Weights are random and uneven (negative scales, biases that are not zero), in float64. Every network runs in a
process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from covered.families import FAMILIES
from covered.page import write_page

from rarts_mm.analysis import environment
from rarts_mm.apis import command_line
from rarts_mm.files import write_text

HERE = Path(__file__).parent


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--only", help="names that contain this text")
    parser.add_argument("--seconds", type=int, default=300, help="for one network (default: 300)")
    parser.add_argument(
        "--work-dir", default="work_dirs/coverage", metavar="DIR", help="where rows are kept"
    )
    parser.add_argument("--page", metavar="MD", help="write the page to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    wanted = [
        (suite, name)
        for suite in args.suite
        for name in FAMILIES[suite]
        if not args.only or args.only in name
    ]
    if not wanted:
        raise command_line.UsageError(f"--only {args.only}: no network has this in its name")
    begun, measured = time.monotonic(), 0
    for number, (suite, name) in enumerate(wanted, start=1):
        path = Path(args.work_dir) / suite / f"{name.replace('/', '-')}.json"
        if path.is_file():
            continue
        row = _row(suite, name, args.seconds)
        measured += 1
        write_text(path, json.dumps(row, indent=1))
        left = (time.monotonic() - begun) / measured * (len(wanted) - number)
        print(
            f"[{number}/{len(wanted)}] {name}: {_text(row)}; {left / 60:.0f} min left", flush=True
        )
    rows = {
        suite: [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        for suite in FAMILIES
        if (folder := Path(args.work_dir) / suite).is_dir()
    }
    if args.page:
        write_page(Path(args.page), rows, environment())


def _row(suite: str, name: str, seconds: int) -> dict:
    row = _measured("row", suite, name, seconds)
    if isinstance(row, str):
        return dict(network=name, failure=row)
    return dict(row, peer=_measured("peer", suite, name, seconds))


def _measured(what: str, suite: str, name: str, seconds: int) -> dict | str:
    """What a process of its own finds; or in words why it found nothing."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "covered.measuring", what, suite, name],
            env=dict(
                os.environ,
                PYTHONPATH=os.pathsep.join([str(HERE), *sys.path]),
                OMP_NUM_THREADS="1",
            ),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"more than {seconds} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
    return json.loads(done.stdout.splitlines()[-1])


def _text(row: dict) -> str:
    if "failure" in row:
        return row["failure"]
    worst = max(row["errors"].values())
    return f"{row['held']:.1%} of the parameters in {row['groups']} groups, difference {worst:.0e}"


if __name__ == "__main__":
    command_line.run(main)
