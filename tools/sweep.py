"""Many trainings from one description: ``rarts-mm sweep SPEC.yaml`` from a checkout."""

from rarts_mm.apis import command_line
from rarts_mm.apis.sweep.command import main

if __name__ == "__main__":
    command_line.run(main, hint="the same command goes on from here")
