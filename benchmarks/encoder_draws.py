"""Calibration draws of `encoder_quality.py`: each is run once and serves all points."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from encoder_contenders import own_search
from encoder_curves import CurvePlans

from numprune_export.calibration import statistics as calibration_statistics
from numprune_export.calibration.statistics import Statistics
from numprune_export.core.progress import Silent
from numprune_export.data.corpus import Windows
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.kinds.task_encoder import TaskEncoder
from numprune_export.pipeline.models import Dense
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.recipe import Recipe


@dataclass(frozen=True)
class Draw:
    """One drawing of calibration examples, and what the dense model shows on it."""

    windows: Windows
    batch: int
    statistics: Mapping[str, Statistics]
    """By site name, gradients of unit masks included."""
    curves: CurvePlans


def drawn(
    chosen: Recipe, family: BidirectionalEncoder, dense: Dense, search: list[Path], seed: int
) -> Draw:
    calibration = chosen.calibration.model_copy(update={"seed": seed})
    own = chosen.model_copy(update={"calibration": calibration, "seed": seed})
    kind = TaskEncoder(own, family, dense, search)
    gradients = kind.gradients.of_units(dense.model, kind.texts, Silent())
    statistics: dict[str, Statistics] = {}
    windows, batch = kind.texts.moments, kind.texts.batch
    for block in calibration_statistics.collect(
        dense.model, family, windows, batch, lambda _: None
    ):
        statistics |= {
            name: replace(sums, unit_gradients=gradients[name]) for name, sums in block.items()
        }
    settings = own_search(chosen)
    priced = Curves(cost=settings.cost, length=settings.length)
    curves = CurvePlans(own, family, dense, search, priced, statistics, Silent())
    return Draw(windows, batch, statistics, curves)
