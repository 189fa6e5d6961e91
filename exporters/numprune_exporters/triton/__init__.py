"""The `triton` server: a model repository that serves text, and the bare graph beside it."""

from numprune_exporters.triton.packager import TritonPackager

__all__ = ["TritonPackager"]
