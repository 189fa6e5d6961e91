"""Token stride for accumulating statistics; neighbouring tokens are correlated."""

PER_INPUT = 10
"""Least number of accumulated tokens per input of a layer: fewer make the sums noisier and save
little time."""


def bounded_stride(stride: int, tokens: int, inputs: int) -> int:
    """The stride, lowered where it would leave fewer than PER_INPUT tokens per input.

    Args:
        stride: The recipe's token stride, at least 1.
        tokens: Calibration tokens.
        inputs: Inputs of the layer whose statistics are accumulated.
    """
    return max(1, min(stride, tokens // (PER_INPUT * inputs)))
