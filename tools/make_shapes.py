"""Make a small data set for detection, in COCO format: ``rarts-mm make-shapes`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
