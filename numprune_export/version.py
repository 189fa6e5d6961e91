"""The package's version: of its metadata, or of the checkout it runs from."""

from numprune_export.distribution import own_version

__version__ = own_version()
