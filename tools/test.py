"""Evaluate a checkpoint with the libraries' own metrics: ``rarts-mm test`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
