"""``rarts-mm COMMAND ...``: the command that is installed with the package."""

import sys
from collections.abc import Sequence
from importlib import import_module

from .stack import StackError

# Command -> what it does.
COMMANDS = {
    "train": "train a search, a baseline or a pruned model, whatever the config says",
    "prune": "rank the scores of a search, make the network smaller, prove it, write it",
    "compress": "the whole chain: baseline, search, prune, fine-tune, test",
    "test": "evaluate a checkpoint with the libraries' own metrics",
    "derive": "the cells that a search has found, and a network of them to retrain",
    "sweep": "many trainings from one description: seeds, ratios, weights of the Lagrangian",
    "latency-table": "measure operations on this machine, for a latency penalty",
    "latency-report": "compare predicted latencies with measured ones",
    "nats-lookup": "accuracy of an architecture of NATS-Bench",
    "make-shapes": "make a small data set for detection, in COCO format",
    "make-digits": "make class folders of scikit-learn's handwritten digits",
    "make-imagenet-subset": "list the images of some classes of ImageNet",
    "solvable-model": "the model of the papers whose optimum is known, with its picture",
}
# What an interrupted one says.
HINTS = {
    "compress": "the same command goes on from here",
    "train": "go on with --resume",
    "sweep": "the same command goes on from here",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; without one, or with ``--help``, list them."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    given, *rest = arguments
    name = given.replace("_", "-")
    if name not in COMMANDS:
        print(f"error: there is no command {given!r}\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [f"rarts-mm {name}", *rest]
    run_command(name)


def run_command(name: str) -> None:
    """Run one with the arguments of the command line; ends the process."""
    name = name.replace("_", "-")
    try:
        from rarts_mm.apis import command_line
    except StackError as error:
        raise SystemExit(f"error: {error}") from error
    command = import_module(f"rarts_mm.commands.{name.replace('-', '_')}")
    command_line.run(command.main, hint=HINTS.get(name, ""))


def usage() -> str:
    """The commands, each with what it does."""
    lines = ["usage: rarts-mm COMMAND ... (rarts-mm COMMAND --help says more)", ""]
    width = max(map(len, COMMANDS))
    return "\n".join([*lines, *(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())])
