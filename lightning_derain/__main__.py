"""`python -m lightning_derain VERB`."""

import sys

from lightning_derain.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
