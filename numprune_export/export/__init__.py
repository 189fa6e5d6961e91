"""The interface between the package and the exporters. Does not import torch."""
