"""The tasks that a recipe names, loaded with the tokenizer that they are asked through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.runner import DecoderRunner
from numprune_export.measure.quality.lm_eval.evaluation import evaluate, max_length
from numprune_export.measure.quality.lm_eval.loading import LoadedTasks, load
from numprune_export.measure.quality.lm_eval.settings import Tasks


@dataclass(frozen=True)
class TaskSuite:
    """What stays the same from one model to the next."""

    settings: Tasks
    tokenizer: Any
    longest: int
    """Tokens that a runner must hold."""
    loaded: LoadedTasks

    @classmethod
    def load(
        cls, settings: Tasks, tokenizer: Any, positions: int, search: Sequence[Path]
    ) -> TaskSuite:
        """
        Args:
            settings: Which tasks.
            tokenizer: Of the model.
            positions: How many the model has.
            search: Folders that `include` is looked up in.

        Raises:
            see `loading.load`.
        """
        loaded = load(settings, search)
        return cls(settings, tokenizer, max_length(settings, positions), loaded)

    @property
    def key(self) -> tuple[Any, ...]:
        """JSON-able: what the scores depend on beside the model."""
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
