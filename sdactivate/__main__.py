"""python -m sdactivate: the same command, run by an interpreter of your choice."""

import sys

from sdactivate.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
