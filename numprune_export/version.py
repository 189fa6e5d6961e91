"""The package's version, from its own metadata."""

from importlib.metadata import version

__version__ = version("numprune-export")
