"""Make class folders of scikit-learn's handwritten digits: ``rarts-mm make-digits`` from a checkout."""

from checkout import run

if __name__ == "__main__":
    run(__file__)
