"""The package's version, and the version of what its stages compute."""

from numprune_export.core.plugins import own_version

__version__ = own_version()
"""Of the metadata, or of the checkout that the package runs from."""

STAGES_VERSION = "0.1.0"
"""Part of every stage's key. It is raised when a stage computes something else for the same inputs, so
that a run folder of an earlier release goes on wherever its stages still hold."""
