"""Symmetric matrices with each entry once: rectangular full packed format (Gustavson et al. 2010,
"Rectangular full packed format for Cholesky's algorithm").

The upper half of the rows is stored as it is. The triangle below its diagonal is free, and holds the
triangle of the lower half of the rows, transposed. So both ways take a few large copies.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from numprune_export.numerics.gram import mirrored


def packed_entries(size: int) -> int:
    """Entries of a packed n × n matrix.

    >>> packed_entries(4)
    10
    """
    return size * (size + 1) // 2


def packed(symmetric: Float[Tensor, "n n"]) -> Float[Tensor, "rows columns"]:
    """A symmetric matrix, packed: `packed_entries` numbers of its dtype, in memory of their own."""
    size = len(symmetric)
    rows, even = -(-size // 2), 1 - size % 2
    pack = symmetric.new_empty(rows, size + even)
    pack[:, even:] = symmetric[:rows]
    corner = pack[1 - even :, : size - rows]
    corner.copy_(symmetric[rows:, rows:].T.tril() + corner.triu(1))
    return pack


def unpacked(pack: Float[Tensor, "rows columns"]) -> Float[Tensor, "n n"]:
    """The matrix that was packed."""
    rows, columns = pack.shape
    even = int(columns > 2 * rows)
    size = columns - even
    square = pack.new_empty(size, size)
    square[:rows] = pack[:, even:]
    square[rows:, rows:] = pack[1 - even :, : size - rows].T
    return mirrored(square)
