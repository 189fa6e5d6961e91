"""`python -m numprune_export` is `numprune-export`."""

from numprune_export.cli.app import main

if __name__ == "__main__":
    main()
