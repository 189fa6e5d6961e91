"""Entities in a sequence of tags, counted for F1 (Tjong Kim Sang & Buchholz 2000)."""

from __future__ import annotations

from collections.abc import Sequence

PREFIXES = "BIES"

Entity = tuple[str, int, int]
"""Type, first word, and the word after the last one."""


def entities(tags: Sequence[str], outside: str) -> set[Entity]:
    """The entities that tags mark. Prefixes, as in `B-PER`: B begins, I continues, E ends, S is
    single.

    Tags need not be well-formed: a tag that cannot continue an entity begins a new one, as in the
    CoNLL evaluation. A tag without a prefix is an entity of one word.

    >>> sorted(entities(["B-PER", "I-PER", "O", "I-LOC"], "O"))
    [('LOC', 3, 4), ('PER', 0, 2)]
    """
    marked: set[Entity] = set()
    kind, start, inside = "", 0, False
    for index, tag in enumerate([*tags, outside]):
        prefix, name = _split(tag)
        continues = inside and prefix in ("I", "E") and name == kind
        if inside and not continues:
            marked.add((kind, start, index))
        if not continues:
            kind, start = name, index
        inside = tag != outside and prefix in ("B", "I")
        if tag != outside and not inside:
            marked.add((kind, start, index + 1))
    return marked


def _split(tag: str) -> tuple[str, str]:
    if tag[1:2] == "-" and tag[0] in PREFIXES:
        return tag[0], tag[2:]
    return "S", tag


def counts(gold: Sequence[str], predicted: Sequence[str], outside: str) -> tuple[int, int, int]:
    """Numbers of correct, gold and predicted entities."""
    expected, guessed = entities(gold, outside), entities(predicted, outside)
    return len(expected & guessed), len(expected), len(guessed)
