"""Command line of Forebay."""

import sys


def main() -> None:
    """Entry point of the `forebay` command."""
    from forebay.cli.app import run

    sys.exit(run(sys.argv[1:]))
