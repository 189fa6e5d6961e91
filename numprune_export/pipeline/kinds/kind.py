"""The protocol of a kind of model: its data, and how it is exported, measured and compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import Exporter
from numprune_export.measure.latency.pairs import Latencies
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.measure.quality.paired_change import Scores
from numprune_export.pipeline.exported import Exported
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts
from numprune_export.pipeline.models import Models, Variant
from numprune_export.pruning.recover.training import RecoveryTexts
from numprune_export.report.schema import TextSource

Ideal = Mapping[str, float]
"""Ideal speed-up by timing, such as `decode` or `forward.b8.l64`."""


class Comparison(Protocol):
    """Result of comparing an artifact with PyTorch."""

    @property
    def max_abs_error(self) -> float: ...
    @property
    def worst(self) -> str: ...
    @property
    def finite(self) -> bool: ...
    @property
    def compared(self) -> int:
        """Number of compared outputs."""
        ...

    def metrics(self, prefix: str, conditions: Mapping[str, Any] | None = None) -> Metrics: ...


@dataclass(frozen=True)
class Proof:
    """A batch for which the logits of the saved model and the model in memory must be bit-equal."""

    tokens: Tensor
    real: Tensor | None = None
    types: Tensor | None = None


class Gradients(Protocol):
    """The gradients that a recipe's score needs."""

    @property
    def key(self) -> Any:
        """Dependencies of the gradients apart from the windows, such as labels, JSON-able; None: the
        score needs no gradients."""
        ...

    def of_units(
        self, model: PreTrainedModel, texts: CalibrationTexts, observer: Observer
    ) -> Mapping[str, Tensor]:
        """Gradients of unit masks by site name, (rows, units); empty if the score needs none."""
        ...

    def of_outputs(
        self, model: PreTrainedModel, texts: CalibrationTexts, observer: Observer
    ) -> Iterable[Mapping[str, Tensor]]:
        """Fisher information of consumers' outputs by site name, block by block; empty if the score
        needs none."""
        ...


class ModelKind(Protocol):
    """The data of a run, read before any other work, and the measurements of a kind of model."""

    texts: CalibrationTexts
    """Calibration texts of the recipe."""

    text_sources: Mapping[str, tuple[TextSource, ...]]
    """Sources of the texts by section of the recipe, for the report; empty for labelled data."""

    recovery: RecoveryTexts | None
    """Texts of the recovery; None: the recipe has none."""

    @property
    def gradients(self) -> Gradients: ...

    @property
    def evaluation_key(self) -> Any:
        """Dependencies of the validation, JSON-able; the first is a hash of tokens and labels."""
        ...

    @property
    def benchmark_key(self) -> Any:
        """Dependencies of the benchmark apart from models and artifacts, JSON-able."""
        ...

    @property
    def tasks_key(self) -> Any:
        """Dependencies of the lm-eval scores, JSON-able; None: the recipe has no tasks."""
        ...

    @property
    def mean_length(self) -> float:
        """Mean tokens of a calibration text, without padding: the length at which MACs count."""
        ...

    def dense_logits(self, dense: PreTrainedModel, texts: CalibrationTexts) -> DenseLogits:
        """Logits of the dense model on some of the trial texts."""
        ...

    def proof(self, texts: CalibrationTexts) -> Proof:
        """The batch of the reload proof, from the compensation texts."""
        ...

    def export(
        self, exporter: Exporter, model: PreTrainedModel, folder: Path, settings: BaseModel
    ) -> Artifact:
        """Write an artifact of the model.

        Raises:
            UnsupportedModelError: this target cannot express the model.
        """
        ...

    def work(self, models: Models) -> Metrics:
        """`size.macs.*`: multiply-accumulates of one evaluation text, dense and pruned; empty for
        language models."""
        ...

    @property
    def evaluated(self) -> int:
        """Number of texts that `scores` runs, which are its progress steps."""
        ...

    @property
    def compared(self) -> int:
        """Progress steps of a comparison of one artifact with PyTorch, in evaluation texts."""
        ...

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores:
        """Scores of an open model on the evaluation texts.

        Args:
            runner: An open runner of a model of this kind.
            under: Further conditions of the metrics: runtime, device.
            observer: Notified of texts done.
        """
        ...

    def reference(
        self, model: PreTrainedModel, threads: int | None = None
    ) -> AbstractContextManager[Any]:
        """The model as a PyTorch runner; `threads` None: the current number of torch threads."""
        ...

    def opened(self, exporter: Exporter, artifact: Artifact) -> AbstractContextManager[Any]:
        """Open an artifact with capacity for the evaluation texts."""
        ...

    def rounding_error(self, model: PreTrainedModel, dtype: str, variant: Variant) -> float:
        """PyTorch's own error in `dtype` on the texts of `compare`: the largest absolute difference
        of a logit from fp64."""
        ...

    def openers(self, exported: Exported) -> Mapping[str, Opener]:
        """Openers of the comparable artifacts and graphs, by their name in the report."""
        ...

    def compare(
        self, exact: PreTrainedModel, opener: Opener, artifact: Artifact, variant: Variant
    ) -> Comparison:
        """Compare an artifact with PyTorch in fp64.

        Args:
            variant: `dense` is compared over fewer steps, since it is exported by the same code.
        """
        ...

    def latency(
        self,
        models: Models,
        exported: Sequence[Exported],
        observer: Observer,
        ideal: Ideal | None = None,
    ) -> Latencies:
        """`latency.*` of every artifact and of PyTorch, in interleaved rounds.

        `ideal` None: computed from both models.
        """
        ...

    def memory(self, exported: Exported) -> Metrics:
        """`memory.*` of a target's artifacts, each measured in its own process."""
        ...


class Opener(Protocol):
    """Opens an artifact for sequences up to `capacity` tokens."""

    def __call__(self, artifact: Artifact, *, capacity: int) -> Any: ...
