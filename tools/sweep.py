"""Many trainings from one description: seeds, ratios, weights of the Lagrangian: ``rarts-mm sweep`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
