"""python -m sdactivate: the same command, by the interpreter of one's choice."""

import sys

from sdactivate.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
