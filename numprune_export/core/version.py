"""The package's version: of its metadata, or of the checkout it runs from."""

from numprune_export.core.plugins import own_version

__version__ = own_version()
