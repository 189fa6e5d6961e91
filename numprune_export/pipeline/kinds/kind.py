"""What differs between kinds of model: how they are calibrated, exported, measured and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

Ideal = Mapping[str, float]
"""The speed-up that the removed work allows, by timing: `decode`, `forward.b8.l64`."""


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
        """How many outputs were compared."""
        ...

    def metrics(self, prefix: str, conditions: Mapping[str, Any] | None = None) -> Metrics: ...


@dataclass(frozen=True)
class Proof:
    """A batch that a saved model must answer bit for bit as the one in memory."""

    tokens: Tensor
    real: Tensor | None = None
    types: Tensor | None = None


class Gradients(Protocol):
    """What a recipe's score needs of backward passes."""

    @property
    def key(self) -> Any:
        """What they depend on beside the windows, JSON-able: labels, for example; None if the score
        needs none."""
        ...

    def of_units(
        self, model: PreTrainedModel, texts: CalibrationTexts, observer: Observer
    ) -> Mapping[str, Tensor]:
        """By site name, gradients of unit masks, (rows, units); empty where the score needs none."""
        ...

    def of_outputs(
        self, model: PreTrainedModel, texts: CalibrationTexts, observer: Observer
    ) -> Mapping[str, Tensor]:
        """By site name, the Fisher information of the consumer's output; empty where the score needs
        none."""
        ...


class ModelKind(Protocol):
    """A model's data, read before any work is done, and how such a model is measured on it."""

    texts: CalibrationTexts
    """As the recipe gives them."""

    @property
    def gradients(self) -> Gradients: ...

    @property
    def evaluation_key(self) -> Any:
        """What validation depends on, JSON-able; the first part is a hash of tokens and labels."""
        ...

    @property
    def benchmark_key(self) -> Any:
        """What the benchmark depends on beside models and artifacts, JSON-able."""
        ...

    @property
    def tasks_key(self) -> Any:
        """What scores of further tasks depend on, JSON-able; None: the recipe names none."""
        ...

    @property
    def mean_length(self) -> float:
        """Tokens of a calibration text, padding left out: what a budget of MACs is counted at."""
        ...

    def dense_logits(self, dense: PreTrainedModel, texts: CalibrationTexts) -> DenseLogits:
        """Of some texts for trials: how far a pruned model is from the dense one."""
        ...

    def proof(self, texts: CalibrationTexts) -> Proof:
        """Of texts for the compensation."""
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
        """`size.macs.*`: multiply-accumulates of one evaluation text, dense and pruned, where a text is
        one forward pass."""
        ...

    @property
    def evaluated(self) -> int:
        """How many texts `scores` runs: its steps of progress."""
        ...

    @property
    def compared(self) -> int:
        """Steps of progress that a comparison of one artifact with PyTorch counts, in evaluation texts."""
        ...

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores:
        """How good an open model is on the evaluation texts.

        Args:
            runner: Of a model of this kind.
            under: What else the numbers hold under: runtime, device.
            observer: Told of texts done.
        """
        ...

    def reference(
        self, model: PreTrainedModel, threads: int | None = None
    ) -> AbstractContextManager[Any]:
        """PyTorch as a runner; `threads` None: as many as torch uses now."""
        ...

    def opened(self, exporter: Exporter, artifact: Artifact) -> AbstractContextManager[Any]:
        """An artifact, open for the evaluation texts."""
        ...

    def rounding_error(self, model: PreTrainedModel, dtype: str, variant: Variant) -> float:
        """PyTorch's own error in `dtype` on the texts that `compare` uses: largest difference of a logit
        from fp64."""
        ...

    def openers(self, exported: Exported) -> Mapping[str, Opener]:
        """How to open what can be compared, by the name it is reported under."""
        ...

    def compare(
        self, exact: PreTrainedModel, opener: Opener, artifact: Artifact, variant: Variant
    ) -> Comparison:
        """An artifact against PyTorch in fp64.

        Args:
            variant: `dense`: fewer steps, since the same code made it.
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
        """`memory.*` of a target's artifacts, each in a process of its own."""
        ...


class Opener(Protocol):
    """Opens an artifact for sequences up to `capacity` tokens."""

    def __call__(self, artifact: Artifact, *, capacity: int) -> Any: ...
