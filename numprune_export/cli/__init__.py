"""The command line: parse, call one function, print. `--help` imports no heavy library."""
