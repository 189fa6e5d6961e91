"""What was timed, in few words."""

from __future__ import annotations

import re


def shape(phase: str) -> str:
    """Batch × tokens of an encoder's forward pass; a decoder's phase as it is.

    >>> shape("forward b8 l128"), shape("decode")
    ('8 × 128', 'decode')
    """
    found = re.fullmatch(r"forward b(\d+) l(\d+)", phase)
    return phase if found is None else " × ".join(found.groups())
