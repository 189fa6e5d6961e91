"""The evaluation texts of a language model: one text, or several sources measured one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numprune_export.core.progress import Observer
from numprune_export.core.stage import key_of
from numprune_export.data.interleaving import interleaved
from numprune_export.data.mix import DrawnSource
from numprune_export.export.runner import Tokens
from numprune_export.measure.quality.paired_change import Scores
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.measure.quality.sources import source_scores


@dataclass(frozen=True)
class EvaluationTexts:
    """Windows of all sources."""

    sources: tuple[DrawnSource, ...]
    named: bool
    """Whether each source has metrics of its own: those of a `mix`."""
    batch: int
    """Windows per forward pass."""

    @cached_property
    def tokens(self) -> Tokens:
        """(windows, tokens): of all sources, evenly mixed."""
        return interleaved([source.windows for source in self.sources]).tokens

    @property
    def tokens_key(self) -> str:
        """Hash of the windows."""
        return key_of(self.tokens.tolist())

    @property
    def key(self) -> str:
        """Hash of the windows, and of the sources' names if these are in metrics."""
        if not self.named:
            return self.tokens_key
        return key_of([(source.name, source.windows.tokens.tolist()) for source in self.sources])

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores:
        """`perplexity`, or `perplexity.<source>` of every source."""
        tick = observer.advance
        if not self.named:
            measured = perplexity(
                runner, self.tokens, batch=self.batch, conditions=under, progress=tick
            )
            return Scores({"perplexity": measured})
        windows = {source.name: source.windows.tokens for source in self.sources}
        return source_scores(runner, windows, batch=self.batch, conditions=under, progress=tick)
