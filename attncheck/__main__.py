"""`python -m attncheck`: the same as the `attncheck` command."""

from attncheck.cli import main

if __name__ == "__main__":
    main()
