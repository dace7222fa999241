"""Accuracy of an architecture of NATS-Bench: ``rarts-mm nats-lookup`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
