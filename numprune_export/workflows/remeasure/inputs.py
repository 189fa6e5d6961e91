"""Reopen the models and evaluation data of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from numprune_export.core.errors import (
    HubError,
    IncomparableError,
    InputError,
    MissingExtraError,
    NumpruneError,
)
from numprune_export.data.corpus_settings import Corpus
from numprune_export.models.checkpoint.source import resolve
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Dense, Models
from numprune_export.pipeline.opening import dense_of, kind_of
from numprune_export.pruning.score.wanda import Wanda
from numprune_export.recipe import builtin_dir
from numprune_export.workflows.remeasure.finished_run import FinishedRun

_HINT = "start in the folder of the recipe, or give that folder with `--search`"


@dataclass(frozen=True)
class RunInputs:
    """Inputs of a remeasurement."""

    kind: ModelKind
    models: Models
    dense_missing: str | None
    """Reason why the dense model is missing; None: it is present and matches the run's hash."""


class PrunedOnly(Models):
    """Models of a run whose dense model is missing."""

    @property
    def dense(self) -> PreTrainedModel:
        raise AssertionError("the dense model is missing")


def reopen(run: FinishedRun, search: Sequence[Path]) -> RunInputs:
    """Find the dense model and the evaluation texts of a run.

    Args:
        run: Must stay locked while the models are read.
        search: Folders searched first for relative paths of the run's recipe.

    Raises:
        IncomparableError: a model or a text differs from the run's, by hash.
        NumpruneError: the texts cannot be read.
    """
    places = (*search, Path.cwd(), run.folder, builtin_dir())
    dense, missing = _dense(run, places)
    known = dense or Dense(resolve(str(run.model.resolve()), revision=None, search=()), _dtype(run))
    # Nothing is calibrated: evaluation data replaces calibration data, which may be missing.
    texts = run.recipe.evaluation
    if isinstance(texts, Corpus) and texts.mix is not None:
        texts = texts.model_copy(update={"mix": texts.mix[:1]})
    recipe = run.recipe.model_copy(update={"calibration": texts, "score": Wanda()})
    if dense is None:  # PyTorch's rows need both models
        timed = recipe.benchmark.model_copy(update={"reference": False})
        recipe = recipe.model_copy(update={"benchmark": timed})
    try:
        kind = kind_of(recipe, known, places)
    except (InputError, HubError) as error:
        raise type(error)(f"the run's evaluation texts: {error}", hint=_HINT) from None
    _require_same(run, "evaluation texts", run.report.evaluation_sha256, kind.evaluation_key[0])
    models = Models if dense is not None else PrunedOnly
    return RunInputs(
        kind, models(known, run.model, run.report.created.isoformat(), run.plan), missing
    )


def _dtype(run: FinishedRun) -> str:
    return run.recipe.model.dtype


def _dense(run: FinishedRun, places: Sequence[Path]) -> tuple[Dense | None, str | None]:
    try:
        dense = dense_of(run.recipe, places)
    except (InputError, HubError, MissingExtraError) as error:
        return None, _not_found(run, error)
    _require_same(run, "dense model", run.report.dense_sha256, dense.fingerprint)
    return dense, None


def _not_found(run: FinishedRun, error: NumpruneError) -> str:
    return f"the dense model `{run.recipe.model.source}` was not found: {error} ({_HINT})"


def _require_same(run: FinishedRun, what: str, then: str | None, now: str) -> None:
    if then is not None and then != now:
        raise IncomparableError(
            f"the {what} found now (sha256 {now[:12]}…) are not the run's ({then[:12]}…)"
            if what.endswith("s")
            else f"the {what} found now (sha256 {now[:12]}…) is not the run's ({then[:12]}…)",
            hint=f"restore the files named in the recipe of `{run.folder}`, or repeat the run",
        )
