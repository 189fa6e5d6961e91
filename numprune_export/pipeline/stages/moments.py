"""Statistics of consumers' inputs: a stage on disk, or one pass that hands on block after block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.statistics import Statistics, collect
from numprune_export.core.stage import InParts, Stage, Together
from numprune_export.data.corpus import Windows
from numprune_export.numerics.ranks import sharing, told
from numprune_export.pipeline.kinds.calibration_texts import windows_key
from numprune_export.pipeline.stages.round_context import RoundContext


@dataclass(frozen=True)
class Moments:
    """The statistics of a round's starting model on some texts, collected when they are asked for."""

    here: RoundContext
    windows: Windows
    batch: int
    """Windows per forward pass."""
    stride: int
    """Token stride; 1: all tokens."""
    name: str = "calibrate"
    """Of the stage on disk."""
    place: str = "statistics"
    """Its folder."""

    @property
    def key(self) -> str:
        """The key of the stage on disk, whether or not there is one."""
        return self.here.key(self.place, self._inputs)

    @property
    def begun(self) -> bool:
        """Whether the stage is on disk, or parts of it."""
        return self.here.begun(self.place, self._inputs)

    def stored(self) -> Stage:
        """The stage on disk, which is made if it is not there."""
        return self.here.learned(
            self.name, self.place, self._inputs, Together(InParts(self._write))
        )

    def abandon(self) -> None:
        """Remove parts of the stage with other inputs."""
        self.here.context.folder.abandon(self.place)

    @property
    def passes(self) -> int:
        """Steps of `collected`: a text's pass through a block each."""
        start = self.here.start
        return len(start.family.block_list(start.model)) * len(self.windows.tokens)

    def collected(self, known: Callable[[int], bool]) -> Iterator[dict[str, Statistics]]:
        """The statistics by site name, block by block; empty for a block that is `known`."""
        start, tick = self.here.start, self.here.context.observer.advance
        return collect(
            start.model, start.family, self.windows, self.batch, tick, self.stride, known=known
        )

    @property
    def _inputs(self) -> list[Any]:
        return [self.here.start.key, windows_key(self.windows), self.batch, self.stride]

    def _write(self, folder: Path) -> None:
        start, observer, ranks = self.here.start, self.here.context.observer, sharing()
        self.here.require_space(
            sum(statistics_store.gram_bytes(site.inputs) for site in start.sites)
        )
        observer.expect(self.passes // ranks.world)
        blocks = range(len(start.family.block_list(start.model)))
        written = [statistics_store.has_block(folder, index) for index in blocks]
        written = told(written) if ranks.world > 1 else written
        for index, statistics in enumerate(self.collected(written.__getitem__)):
            if ranks.first and not written[index]:
                statistics_store.write_block(folder, index, statistics)
