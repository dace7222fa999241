"""Measure operations on this machine, for a latency penalty: ``rarts-mm latency-table`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
