"""The lm-eval tasks of a recipe, loaded together with the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.data.vocabulary import require_embeddings
from numprune_export.export.runner import DecoderRunner
from numprune_export.measure.quality.lm_eval.evaluation import evaluate, max_length
from numprune_export.measure.quality.lm_eval.loading import LoadedTasks, load
from numprune_export.measure.quality.lm_eval.settings import Tasks


@dataclass(frozen=True)
class TaskSuite:
    """Loaded tasks and tokenizer, shared by all evaluated models."""

    settings: Tasks
    tokenizer: Any
    longest: int
    """Required capacity of a runner, in tokens."""
    loaded: LoadedTasks

    @classmethod
    def load(
        cls,
        settings: Tasks,
        tokenizer: Any,
        search: Sequence[Path],
        *,
        positions: int,
        embeddings: int,
    ) -> TaskSuite:
        """Load the tasks and check that the model can embed all their tokens.

        Args:
            settings: Names and options of the tasks.
            tokenizer: Of the model.
            search: Folders that `include` is resolved against.
            positions: Number of positions of the model.
            embeddings: Number of embeddings of the model; token ids are below it.

        Raises:
            InputError: an example has a token without an embedding; see also `loading.load`.
        """
        loaded = load(settings, search)
        if max(tokenizer.get_vocab().values()) >= embeddings:
            require_embeddings(_encoded(loaded, tokenizer), tokenizer, embeddings)
        return cls(settings, tokenizer, max_length(settings, positions), loaded)

    @property
    def key(self) -> tuple[Any, ...]:
        """Dependencies of the scores apart from the model. JSON-able."""
        return self.loaded.key

    def scores(
        self, runner: DecoderRunner, under: Mapping[str, Any], observer: Observer
    ) -> Metrics:
        """See `evaluation.evaluate`."""
        return evaluate(
            runner,
            self.tokenizer,
            self.loaded,
            self.settings,
            longest=self.longest,
            conditions=under,
            observer=observer,
        )


def _encoded(loaded: LoadedTasks, tokenizer: Any) -> Iterator[tuple[str, list[int]]]:
    """Location and token ids of every text of every example."""
    for name, task in loaded.content["tasks"].items():
        for number, example in enumerate(task.eval_docs, start=1):
            for text in _texts(example):
                yield (
                    f"example {number} of task `{name}`",
                    tokenizer(text, verbose=False)["input_ids"],
                )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)
