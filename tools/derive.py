"""The cells that a search has found, and a network of them to retrain: ``rarts-mm derive`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
