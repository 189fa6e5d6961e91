"""Settings of a recipe that are valid separately but contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.latency.settings import LatencyBudget, Timing
from numprune_export.pruning.score.fisher_obs import FisherObs

if TYPE_CHECKING:
    from numprune_export.recipe.schema import Allocate, Recipe


@dataclass(frozen=True)
class Conflict:
    """One contradiction."""

    keys: frozenset[str]
    """Top-level keys of the recipe that contradict each other."""
    message: str
    hint: str


class ConflictingSettings(ValueError):
    """All conflicts of a recipe with valid sections; raised by the schema."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        super().__init__("; ".join(conflict.message for conflict in conflicts))
        self.conflicts = tuple(conflicts)

    def apart_from(self, keys: Set[str]) -> list[Conflict]:
        """Conflicts that involve none of these top-level keys."""
        return [conflict for conflict in self.conflicts if not conflict.keys & keys]


def timing_of(settings: Allocate) -> Timing | None:
    """Timing settings of a budget in milliseconds; None: another budget."""
    if isinstance(settings, LatencyBudget):
        return settings
    return settings.timed if isinstance(settings, Curves) else None


def conflicts(recipe: Recipe) -> Iterator[Conflict]:
    """Every contradiction between sections."""
    yield from _rounds(recipe)
    yield from _summed_scores(recipe)
    yield from _timed_target(recipe)
    yield from _mixes(recipe)
    yield from _unnamed_evaluation(recipe)
    if isinstance(recipe.evaluation, Corpus) and recipe.evaluation.windows != "packed":
        yield Conflict(
            frozenset({"evaluation"}),
            "`evaluation.windows` must be `packed`: perplexity is computed on full windows",
            "omit `evaluation.windows`",
        )


def _mixes(recipe: Recipe) -> Iterator[Conflict]:
    calibration, evaluation = recipe.calibration, recipe.evaluation
    shares = _shares(calibration)
    if any(shares) and not all(shares):
        yield Conflict(
            frozenset({"calibration"}),
            f"`calibration.mix`: {shares.count(None)} of {len(shares)} sources have no `share`",
            "give `share` for every source, or for none: equal parts",
        )
    elif isinstance(calibration, Corpus) and 0 in (counts := calibration.shared()):
        source = calibration.sources[counts.index(0)]
        yield Conflict(
            frozenset({"calibration"}),
            f"`calibration`: source `{source.title}` gets none of {calibration.sequences} windows",
            "raise its `share` (`general` of the general text) or `calibration.sequences`, or remove it",
        )
    if any(_shares(evaluation)):
        yield Conflict(
            frozenset({"evaluation"}),
            "`evaluation.mix` has a `share`, but each source is measured by itself",
            "omit `share`: each source gets `evaluation.sequences` windows",
        )


def _unnamed_evaluation(recipe: Recipe) -> Iterator[Conflict]:
    """The general text is a default for calibration alone."""
    evaluation = recipe.evaluation
    if not isinstance(evaluation, Corpus):
        return
    if not evaluation.named:
        yield Conflict(
            frozenset({"evaluation"}),
            "`evaluation` names no text",
            "give `evaluation.texts`, `evaluation.dataset` or `evaluation.mix`: held-out text like"
            " that of the model's use",
        )
    elif evaluation.general is not None:
        yield Conflict(
            frozenset({"evaluation"}),
            "`evaluation.general` divides windows of calibration only",
            "omit it, or name the general text as a source: `mix: [{builtin: general}]`",
        )


def _shares(texts: Corpus | LabelledData) -> list[float | None]:
    mix = texts.mix if isinstance(texts, Corpus) else None
    return [source.share for source in mix or ()]


def _rounds(recipe: Recipe) -> Iterator[Conflict]:
    keys = frozenset({"allocate", "rounds"})
    if recipe.rounds == 1:
        return
    if isinstance(recipe.allocate, Search | LatencyBudget):
        yield Conflict(
            keys,
            "`rounds` above 1 need `allocate: curves` or one of the thresholds",
            "give `rounds: 1`, or `allocate: curves`",
        )
    elif timing_of(recipe.allocate) is not None:
        yield Conflict(keys, "a budget in milliseconds supports one round only", "give `rounds: 1`")


def _summed_scores(recipe: Recipe) -> Iterator[Conflict]:
    """A search sums scores of heads and neurons, which is valid only for estimates of the loss."""
    score, settings = recipe.score, recipe.allocate
    if not isinstance(settings, Search | LatencyBudget):
        return
    keys, named = frozenset({"score", "allocate"}), f"`score: {score.method}`"
    if isinstance(score, FisherObs):
        yield Conflict(
            keys,
            f"{named} needs `allocate: curves` or one of the thresholds",
            "give `allocate: curves`, or `score: fisher`",
        )
    elif not score.estimates_loss and settings.min_keep == 0:
        yield Conflict(
            keys,
            f"{named} is not comparable between heads and neurons: `allocate: {settings.method}`"
            " would empty whole layers",
            "give `score: fisher`, or `allocate: global`, or a floor, `allocate.min_keep: 0.1`",
        )


def _timed_target(recipe: Recipe) -> Iterator[Conflict]:
    timing = timing_of(recipe.allocate)
    if timing is not None and timing.target not in recipe.targets:
        targets = ", ".join(f"`{name}`" for name in recipe.targets)
        yield Conflict(
            frozenset({"allocate", "targets"}),
            f"`allocate.target`: `{timing.target}` is not one of the recipe's targets",
            f"the recipe has {targets}" if targets else "add it under `targets`",
        )
