"""Compare predicted latencies with measured ones: ``rarts-mm latency-report`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
