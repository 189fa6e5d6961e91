"""Entities in a row of tags, and the F1 score of finding them (Tjong Kim Sang & Buchholz 2000)."""

from __future__ import annotations

from collections.abc import Sequence

PREFIXES = "BIES"

Entity = tuple[str, int, int]
"""Its type, its first word, and the word after its last one."""


def entities(tags: Sequence[str], outside: str) -> set[Entity]:
    """What the tags mark: B begins, I goes on, E ends, S stands alone, as in `B-PER`.

    Tags need not be well-formed: one that cannot go on begins a new entity, as the CoNLL evaluation
    has it. A tag without a prefix is an entity of one word.

    >>> sorted(entities(["B-PER", "I-PER", "O", "I-LOC"], "O"))
    [('LOC', 3, 4), ('PER', 0, 2)]
    """
    found: set[Entity] = set()
    kind, start, goes_on = "", 0, False
    for index, tag in enumerate([*tags, outside]):
        prefix, name = _split(tag)
        joins = goes_on and prefix in ("I", "E") and name == kind
        if goes_on and not joins:
            found.add((kind, start, index))
        if not joins:
            kind, start = name, index
        goes_on = tag != outside and prefix in ("B", "I")
        if tag != outside and not goes_on:
            found.add((kind, start, index + 1))
    return found


def _split(tag: str) -> tuple[str, str]:
    if tag[1:2] == "-" and tag[0] in PREFIXES:
        return tag[0], tag[2:]
    return "S", tag


def counts(gold: Sequence[str], predicted: Sequence[str], outside: str) -> tuple[int, int, int]:
    """Entities found, entities there are, entities predicted."""
    right, guessed = entities(gold, outside), entities(predicted, outside)
    return len(right & guessed), len(right), len(guessed)
