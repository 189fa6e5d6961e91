"""Which tokens sums over tokens are made of: neighbours in a text tell much the same."""

PER_INPUT = 10
"""Tokens for each input of a layer that are not gone below: with fewer, sums are more noise than they need
be, and there is less to save."""


def bounded_stride(every: int, tokens: int, inputs: int) -> int:
    """One token in `every`, or in fewer where that would leave less than PER_INPUT an input.

    Args:
        every: What a recipe asks for, at least 1.
        tokens: There are.
        inputs: Of the layer whose inputs are summed over.
    """
    return max(1, min(every, tokens // (PER_INPUT * inputs)))
