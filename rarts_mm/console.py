"""``rarts-mm COMMAND ...``: the command that is installed with the package."""

import sys
from collections.abc import Sequence
from importlib import import_module

# Command -> its module, what it says when it is interrupted, and what it does.
COMMANDS = {
    "sweep": (
        "rarts_mm.apis.sweep.command",
        "the same command goes on from here",
        "many trainings from one description: seeds, ratios, weights of the Lagrangian",
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; without one, or with ``--help``, list them."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    module, hint, _ = COMMANDS[name]
    from rarts_mm.apis import command_line

    sys.argv = [f"rarts-mm {name}", *rest]
    command_line.run(import_module(module).main, hint=hint)


def usage() -> str:
    """The commands, each with what it does."""
    lines = ["usage: rarts-mm COMMAND ... (rarts-mm COMMAND --help says more)", ""]
    return "\n".join([*lines, *(f"  {name:<8}{text}" for name, (_, _, text) in COMMANDS.items())])
