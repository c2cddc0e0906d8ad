"""The `chunkwise` command: `python -m chunkwise` and the console script."""

import sys

from . import _engine


def main() -> None:
    sys.exit(_engine.command(["chunkwise", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
