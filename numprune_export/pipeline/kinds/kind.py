"""What is pruned and measured: the one place where the pipeline tells decoders from encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import key_of
from numprune_export.data.corpus import Windows
from numprune_export.export.artifact import Artifact, Exporter
from numprune_export.measure.latency.interleave import Keep
from numprune_export.measure.quality.divergence import DenseAnswers
from numprune_export.pipeline.models import Models, Variant
from numprune_export.pipeline.stages.export import Exported
from numprune_export.pipeline.stages.paired_change import Scores

Ideal = Callable[[str], float]
"""The speed-up that the removed work allows, by phase or shape: `decode`, `b8.l64`."""


class Found(Protocol):
    """What a comparison came to."""

    @property
    def max_abs_error(self) -> float: ...
    @property
    def worst(self) -> str: ...
    @property
    def finite(self) -> bool: ...
    @property
    def compared(self) -> int:
        """How many answers were compared."""
        ...

    def metrics(self, prefix: str, conditions: Mapping[str, Any] | None = None) -> Metrics: ...


@dataclass(frozen=True)
class Proof:
    """A batch that a saved model must answer bit for bit as the one in memory."""

    tokens: Tensor
    real: Tensor | None = None
    types: Tensor | None = None


def windows_key(windows: Windows) -> str:
    """Hash of the token windows themselves: the calibration hash of a checkpoint."""
    return key_of(windows.tokens.tolist(), windows.lengths.tolist())


class Subject(Protocol):
    """One model's texts and its measure, both read before any work is done."""

    calibration: Windows

    @property
    def calibration_batch(self) -> int:
        """Sequences run at once while calibrating."""
        ...

    @property
    def gradients_key(self) -> Any:
        """What gradients depend on beside the windows, JSON-able: labels, for example; None if the
        score needs none."""
        ...

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

    def gradients(self, model: PreTrainedModel, observer: Observer) -> Mapping[str, Tensor]:
        """By site name, gradients of unit masks, (rows, units); empty where the score needs none."""
        ...

    def output_fisher(self, model: PreTrainedModel, observer: Observer) -> Mapping[str, Tensor]:
        """By site name, the Fisher information of the consumer's output; empty where the score needs
        none."""
        ...

    def answers(self, dense: PreTrainedModel) -> DenseAnswers:
        """The dense model's on some calibration texts, which tell how far a pruned model is from it."""
        ...

    def work(self, models: Models) -> Metrics:
        """`size.macs.*`: multiply-accumulates of one evaluation text, dense and pruned, where a text is
        one forward pass."""
        ...

    def proof(self) -> Proof: ...

    def export(
        self, exporter: Exporter, model: PreTrainedModel, folder: Path, settings: BaseModel
    ) -> Artifact:
        """Write an artifact of the model.

        Raises:
            UnsupportedModelError: this target does not take such a model.
        """
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
            runner: Of a model of this subject's kind.
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
        """An artifact, open for the evaluation texts.

        Raises:
            UnsupportedModelError: this target does not take such a model.
        """
        ...

    def own_error(self, model: PreTrainedModel, dtype: str, variant: Variant) -> float:
        """PyTorch's own error in `dtype` on the texts that `compare` uses."""
        ...

    def openers(self, exported: Exported) -> Mapping[str, Opener]:
        """How to open what can be compared, by the name it is reported under."""
        ...

    def compare(
        self, exact: PreTrainedModel, opener: Opener, artifact: Artifact, variant: Variant
    ) -> Found:
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
        keep: Keep,
        ideal: Ideal | None = None,
    ) -> Metrics:
        """`latency.*` of every artifact and of PyTorch, in interleaved rounds; `keep` is told them.

        `ideal` None: computed from both models.
        """
        ...

    def memory(self, exported: Exported) -> Metrics:
        """`memory.*` of a target's artifacts, each in a process of its own."""
        ...


class Opener(Protocol):
    """Opens an artifact for sequences up to `capacity` tokens."""

    def __call__(self, artifact: Artifact, *, capacity: int) -> Any: ...
