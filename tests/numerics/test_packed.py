"""A symmetric matrix with each entry once."""

import pytest
import torch

from numprune_export.numerics.packed import packed, packed_entries, unpacked


@pytest.mark.parametrize("size", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_unpacked_bit_by_bit_and_takes_its_triangle(size, dtype):
    square = torch.randn(size, size, dtype=dtype, generator=torch.Generator().manual_seed(size))
    symmetric = square + square.T
    before = symmetric.clone()
    pack = packed(symmetric)
    assert (pack.numel(), pack.dtype) == (packed_entries(size), dtype)
    assert torch.equal(unpacked(pack), symmetric)
    assert torch.equal(symmetric, before)
