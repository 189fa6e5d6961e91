"""Which encoders can be asked what the first one's run was evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig

from numprune_export.models.checkpoint.load import skeleton
from numprune_export.models.checkpoint.source import Source
from numprune_export.workflows.remeasure.candidate import Candidate

SPAN = "QuestionAnswering"
"""The head whose two outputs are no labels."""


@dataclass(frozen=True)
class _Task:
    """What a model with a task head answers."""

    head: str
    """Of its class: `SequenceClassification`."""
    labels: tuple[str, ...]
    positions: int
    """The longest text that it takes, in tokens."""

    @classmethod
    def of(cls, source: Source) -> _Task:
        config: PretrainedConfig = skeleton(source).config
        head = config.architectures[0].rpartition("For")[2]
        labels = tuple(config.id2label[index] for index in sorted(config.id2label))
        return cls(head, () if head == SPAN else labels, int(config.max_position_embeddings))

    def difference(self, other: _Task, longest: int) -> str | None:
        """Why the other one cannot be asked the same, in words that follow its name."""
        if other.head != self.head:
            return f"has a `{other.head}` head, not `{self.head}`"
        if len(other.labels) != len(self.labels):
            return f"has {len(other.labels)} labels, not {len(self.labels)}"
        if _named(other.labels) and _named(self.labels) and other.labels != self.labels:
            return f"has other labels, {_told(other.labels)}, than {_told(self.labels)}"
        if other.positions < longest:
            return f"takes {other.positions} tokens at most, and an example has {longest}"
        return None


def same_task(contenders: Sequence[Candidate], longest: int) -> tuple[list[bool], list[str]]:
    """Which models answer what the first one does, and why the others do not, in sentences.

    Args:
        contenders: Encoders; one with no model beside it cannot be told, and is taken to differ.
        longest: Tokens of the longest example.
    """
    first = contenders[0].source
    if first is None:
        return [False] * len(contenders), []
    expected, same, notes = _Task.of(first), list[bool](), list[str]()
    for one in contenders:
        why = None if one.source is None else expected.difference(_Task.of(one.source), longest)
        same.append(one.source is not None and why is None)
        if why is not None:
            notes.append(f"`{one.label}` {why}: its quality is not measured")
    return same, notes


def _named(labels: Sequence[str]) -> bool:
    """Not the names that transformers gives where nobody gave any."""
    return list(labels) != [f"LABEL_{index}" for index in range(len(labels))]


def _told(labels: Sequence[str]) -> str:
    more = ", …" if len(labels) > 3 else ""
    return f"`{', '.join(labels[:3])}{more}`"
