"""`python -m forebay`: the command line without its script."""

from forebay.cli import main

if __name__ == "__main__":
    main()
