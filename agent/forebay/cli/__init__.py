"""Command line of Forebay."""


def main() -> None:
    """Entry point of the `forebay` command."""
    raise SystemExit("not built yet")
