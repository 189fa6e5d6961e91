"""What is freed while pruning stays with the process; what a stage has left goes back."""

import ctypes
import resource
import sys
from pathlib import Path

import pytest
import torch

from numprune_export.core import allocator

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="only glibc can be told; elsewhere `kept` and `release` change nothing",
)


def faults(rounds=40, size=5_000_000):
    """Pages that were new, when a tensor of 20 MB is made again and again, another one in between."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        tensor = torch.ones(size)
        two = tensor + 1
        del tensor, two
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def given_back():
    """Bytes that are no longer resident after `release`, of 200 MB that were freed while kept."""
    with allocator.kept():
        many = [torch.ones(1_000_000) for _ in range(50)]
        full = resident()
        del many
    allocator.release()
    return full - resident()


# Other processes can cost this one pages, and never save it any: the best of some tries is its own.
@glibc
def test_freed_memory_is_used_again():
    with allocator.kept():
        faults(2)  # room for the first time
        few = 2 * 40 * 20_000_000 // resource.getpagesize() // 10
        assert min(faults() for _ in range(3)) < few


@glibc
def test_freed_memory_goes_back_at_the_end_of_a_stage():
    assert max(given_back() for _ in range(3)) > 150_000_000


def test_where_nothing_can_be_told_nothing_happens(monkeypatch):
    asked = []
    monkeypatch.setattr(allocator, "_glibc", asked.append)
    with allocator.kept():
        allocator.release()
    assert asked == ["mallopt", "malloc_trim"]
