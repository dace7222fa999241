"""Runs of two processes, one after the other, whose threads get no time at the end; how do they end?

python tests/engine/ranks_that_end.py RUNS FOLDER prints a line of JSON: how many runs of a search and of
a test there were, how many processes failed, and how many of these were terminated by C++.

Each process is forked of this one, which has imported everything, and ends as an interpreter ends.
Starving the threads makes likely what is rare on a busy machine.
"""

import json
import os
import socket
import sys
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from rarts_mm.apis import command_line
from tests.conftest import load_tool
from tests.tiny_files import search_config


@HOOKS.register_module()
class StarvedThreads(Hook):
    """From the last validation or test on, other threads run only when nobody else wants to."""

    def before_val_epoch(self, runner) -> None:
        for thread in os.listdir("/proc/self/task"):
            if int(thread) != os.getpid():
                os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))

    before_test_epoch = before_val_epoch


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def rank(number: int, port: int, log: Path, tool: str, arguments: list[str]) -> None:
    """Be one of two processes, as torchrun starts them."""
    where = dict(RANK=number, LOCAL_RANK=number, WORLD_SIZE=2, MASTER_PORT=port)
    os.environ.update({key: str(value) for key, value in where.items()}, MASTER_ADDR="127.0.0.1")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    module = load_tool(tool)
    command_line.run(lambda: module.main([*arguments, "--launcher", "pytorch"]))
    raise SystemExit


def main(runs: int, folder: Path) -> None:
    torch.set_num_threads(1)
    hooks = [dict(type="StarvedThreads")]
    config = str(search_config(folder / "config.py", custom_hooks=hooks))
    count = dict(train=0, test=0, failed=0, terminated=0)
    checkpoint = str(folder / "run0" / "epoch_2.pth")
    for i in range(runs):
        tool = ("train", "test")[i % 2]
        arguments = dict(
            train=[config, "--work-dir", str(folder / f"run{i}")],
            test=[config, checkpoint, "--work-dir", str(folder / f"run{i}")],
        )[tool]
        port, logs = free_port(), [folder / f"{i}.{number}.log" for number in (0, 1)]
        children = []
        for number, log in enumerate(logs):
            child = os.fork()
            if not child:
                rank(number, port, log, tool, arguments)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        count[tool] += 1
        count["failed"] += sum(code != 0 for code in codes)
        count["terminated"] += sum("terminate called" in log.read_text() for log in logs)
        print(f"{i} {tool} {codes}", file=sys.stderr, flush=True)
    print(json.dumps(count))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
