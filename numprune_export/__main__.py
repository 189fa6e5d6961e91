"""`python -m numprune_export` is `numprune-export`."""

import os
import sys

if __name__ == "__main__":
    if sys.path[0] == os.getcwd() and not getattr(sys.flags, "safe_path", False):  # noqa: PTH109
        del sys.path[0]  # put there by `-m`: a user's `numpy.py` would be run
    from numprune_export.cli.app import main

    main()
