"""Train a search, a baseline or a pruned model, whatever the config says: ``rarts-mm train`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
