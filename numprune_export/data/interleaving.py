"""One fixed order of the windows of several text sources, which mixes them evenly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from numprune_export.data.corpus import Windows

GOLDEN = (5**0.5 - 1) / 2
"""Part of a full turn. Points that are each this much further on a circle spread most evenly."""


def interleaved(parts: Sequence[Windows]) -> Windows:
    """The windows of several sources in one fixed order, in which every prefix, every run of
    neighbours and every n-th window holds all sources in about their proportion.

    The k-th place of N belongs to the source in whose share the point (k + 1/2) φ mod 1 falls, φ
    the golden ratio: multiples of φ fill the unit interval evenly, and so do every n-th of them.
    Windows of one source keep their order. One part is returned as it is.

    Args:
        parts: Windows of the same width, without token types.
    """
    if len(parts) == 1:
        return parts[0]
    counts = [len(part.tokens) for part in parts]
    points = (np.arange(sum(counts)) + 0.5) * GOLDEN % 1
    owners = np.empty(len(points), dtype=np.intp)
    owners[np.argsort(points, kind="stable")] = np.repeat(np.arange(len(parts)), counts)
    order = np.empty(len(points), dtype=np.intp)
    order[np.argsort(owners, kind="stable")] = np.arange(len(points))
    tokens = np.concatenate([part.tokens for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    return Windows(tokens[order], lengths[order])
