"""List the images of some classes of ImageNet: ``rarts-mm make-imagenet-subset`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
