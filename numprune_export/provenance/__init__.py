"""Where a folder of files came from, and whether it is still what was written."""
