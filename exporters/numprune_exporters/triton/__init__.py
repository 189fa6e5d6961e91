"""The `triton` server: a model repository that serves text, and one with the bare graph."""

from numprune_exporters.triton.packager import TritonPackager

__all__ = ["TritonPackager"]
