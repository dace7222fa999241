"""Rank the scores of a search, make the network smaller, prove it, write it: ``rarts-mm prune`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
