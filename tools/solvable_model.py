"""The model of the papers whose optimum is known, with its picture: ``rarts-mm solvable-model`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
