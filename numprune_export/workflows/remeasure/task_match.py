"""Select the encoders that share the task of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig

from numprune_export.models.checkpoint.load import skeleton
from numprune_export.models.checkpoint.source import Source
from numprune_export.workflows.remeasure.candidate import Candidate

SPAN = "QuestionAnswering"
"""Head whose two outputs are span bounds, not labels."""


@dataclass(frozen=True)
class _Task:
    """Task of an encoder: head, labels, input length."""

    head: str
    """Part of the class name, for example `SequenceClassification`."""
    labels: tuple[str, ...]
    positions: int
    """Maximum input length in tokens."""

    @classmethod
    def of(cls, source: Source) -> _Task:
        config: PretrainedConfig = skeleton(source).config
        head = config.architectures[0].rpartition("For")[2]
        labels = tuple(config.id2label[index] for index in sorted(config.id2label))
        return cls(head, () if head == SPAN else labels, int(config.max_position_embeddings))

    def difference(self, other: _Task, longest: int) -> str | None:
        """How another task differs, as a phrase after the model's name; None: it does not."""
        if other.head != self.head:
            return f"has a `{other.head}` head, not `{self.head}`"
        if len(other.labels) != len(self.labels):
            return f"has {len(other.labels)} labels, not {len(self.labels)}"
        if _named(other.labels) and _named(self.labels) and other.labels != self.labels:
            return f"has the labels {_listed(other.labels)}, not {_listed(self.labels)}"
        if other.positions < longest:
            return f"takes at most {other.positions} tokens, and an example has {longest}"
        return None


def same_task(candidates: Sequence[Candidate], longest: int) -> tuple[list[bool], list[str]]:
    """Whether each model has the task of the first; notes explain the others.

    Args:
        candidates: Encoders. A candidate without a checkpoint counts as different.
        longest: Tokens of the longest example.
    """
    first = candidates[0].source
    if first is None:
        return [False] * len(candidates), []
    expected, same, notes = _Task.of(first), list[bool](), list[str]()
    for model in candidates:
        why = None if model.source is None else expected.difference(_Task.of(model.source), longest)
        same.append(model.source is not None and why is None)
        if why is not None:
            notes.append(f"`{model.label}` {why}: its quality is not measured")
    return same, notes


def _named(labels: Sequence[str]) -> bool:
    """Whether labels differ from the defaults of transformers, `LABEL_0`, `LABEL_1`, ..."""
    return list(labels) != [f"LABEL_{index}" for index in range(len(labels))]


def _listed(labels: Sequence[str]) -> str:
    more = ", …" if len(labels) > 3 else ""
    return f"`{', '.join(labels[:3])}{more}`"
