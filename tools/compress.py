"""The whole chain: baseline, search, prune, fine-tune, test: ``rarts-mm compress`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
