"""The recipe: one strict, versioned YAML file from model to verdict. Defaults live here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from numprune_export.calibration.generated_text_settings import GeneratedText
from numprune_export.core.settings import Strict
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.gate.limits import Gate
from numprune_export.measure.quality.lm_eval.settings import Tasks
from numprune_export.numerics.precision import Precision
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.latency.settings import LatencyBudget
from numprune_export.pruning.allocate.threshold import Allocation
from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.compensate.teacher_refit import Refit
from numprune_export.pruning.recover.settings import Recover
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.wanda import Wanda
from numprune_export.recipe.aliases import present_names
from numprune_export.recipe.conflicts import ConflictingSettings, conflicts
from numprune_export.recipe.presets import Preset, merged

DEFAULT_TARGETS: dict[str, dict[str, Any]] = {"onnx": {}}


def _named(key: str) -> BeforeValidator:
    """Accept a string as shorthand for a section with one key: `score: wanda`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


_DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"


def _known_device(name: str) -> str:
    if re.fullmatch(_DEVICE, name) is None:
        raise ValueError("must be `auto`, `cpu`, `cuda` or `cuda:N`")
    return name


def _counted(key: str) -> BeforeValidator:
    """Accept an integer as shorthand for a section with one key: `generated_text: 32`."""
    return BeforeValidator(
        lambda value: (
            {key: value} if isinstance(value, int) and not isinstance(value, bool) else value
        )
    )


class Model(Strict):
    """The dense model."""

    source: str
    """A Hugging Face folder, a `.gguf` file, a hub id, or `package:NAME/FILE` for a file of an
    installed Python package."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Dtype of the model during pruning, and of the saved weights. `auto`: that of most weights of the
    checkpoint."""


class Parity(Strict):
    """Limits on the difference between an exported model and PyTorch."""

    tolerance: PositiveFloat = 1.0e-4
    """Maximum absolute difference of any logit from PyTorch in fp64."""
    rounding: NonNegativeFloat = 3.0
    """Factor on PyTorch's rounding error in the artifact's dtype on the same text. The limit is the
    larger of this product and `tolerance`: no runtime can be more exact than its arithmetic."""
    steps: PositiveInt = 32
    """Decode steps compared, and greedy tokens generated."""
    bisect: bool = True
    """If an artifact fails, bisect over truncated models to find the first layer that differs:
    about log2(layers) further exports."""


class Benchmark(Strict):
    """Benchmark of dense and pruned artifacts."""

    prefill: PositiveInt = 128
    """Prompt tokens, for the time to the first token."""
    past: PositiveInt = 128
    """Tokens in the KV cache before the timed decode steps."""
    decode_steps: PositiveInt = 16
    """Decode steps per sample."""
    batch: PositiveInt = 1
    batches: tuple[PositiveInt, ...] = (1, 8, 32)
    """Encoders: timed batch sizes, each at all `lengths`."""
    lengths: tuple[PositiveInt, ...] = (16, 64, 128)
    """Encoders: tokens per text."""
    warmup: Annotated[int, Field(ge=0)] = 2
    """Warm-up rounds, which are not counted."""
    samples: Annotated[int, Field(ge=5)] = 20
    """Minimum number of interleaved rounds; every candidate runs once per round."""
    sessions: PositiveInt = 6
    """Number of times the artifacts are reopened; the rounds are divided among the sessions.
    Latency depends by a few percent on the memory layout of the weights, so the intervals of speed-ups are
    over sessions; with fewer than 3 sessions, over rounds."""
    threads: PositiveInt = 1
    """CPU threads of every candidate."""
    reference: bool = True
    """Also time PyTorch in the same rounds."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the bootstrap for confidence intervals."""


def _kind_of_allocation(value: Any) -> str:
    method = value.get("method") if isinstance(value, Mapping) else getattr(value, "method", None)
    return method if method in ("search", "latency", "curves") else "threshold"


Allocate = Annotated[
    Annotated[Allocation, Tag("threshold")]
    | Annotated[Curves, Tag("curves")]
    | Annotated[Search, Tag("search")]
    | Annotated[LatencyBudget, Tag("latency")],
    Discriminator(_kind_of_allocation),
]
"""Thresholds over all units, error curves, or the exact search under a budget of cost or of
latency."""


Repair = Annotated[
    ClosedForm | Bias | Nothing | ScalarTuning | Refit, Field(discriminator="method")
]
"""Compensation from statistics of one model, or fits of a pruned model to a teacher."""

UNIONS = ("score", "allocate", "compensate", "calibration", "evaluation")
"""Keys whose value is a union of sections."""

_LABELLED = {*LabelledData.model_fields} - {*Corpus.model_fields}


def _kind_of_texts(value: Any) -> str:
    if isinstance(value, Mapping):
        return "labelled" if _LABELLED & value.keys() else "corpus"
    return "labelled" if isinstance(value, LabelledData) else "corpus"


Texts = Annotated[
    Annotated[Corpus, Tag("corpus")] | Annotated[LabelledData, Tag("labelled")],
    Discriminator(_kind_of_texts),
]
"""Labelled examples if the section has a key that only they have, else plain text."""


class Recipe(Strict):
    """Settings of `numprune-export run`. Only `version`, `model` and `evaluation` are required."""

    version: Literal[1]
    """Version of this schema."""
    model: Annotated[Model, _named("source")]
    """The dense model; a string is its `source`."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Fraction of the prunable block parameters to keep (not the fraction removed)."""
    method: Preset | None = None
    """Preset of the settings below, up to `rounds`; explicit keys override it. `best`: quality
    first. `best+recover`: then a training towards the dense model. `fast`: no gradients, one pass. `paper-numerical`, `paper-fisher`: as published."""
    query_heads: Literal["grouped", "single"] = "grouped"
    """Decoders: unit of attention pruning. `grouped`: a KV head is removed with all of its query
    heads; the group size is unchanged. `single`: query heads are removed one by one, which needs a runtime
    that supports KV heads with different group sizes."""
    calibration: Texts = Corpus()
    """Data for scores and compensation: plain text for a language model, by default the general
    text of the package; labelled examples (`files`) for a model with a task head."""
    generated_text: Annotated[GeneratedText, _counted("sequences")] = GeneratedText()
    """Language models: additional calibration text generated by the dense model; a number is its
    `sequences`. Improves quality on text unlike the calibration text, at a small loss on text like
    it."""
    score: Annotated[Score, _named("method")] = Wanda()
    """Importance score of units. The default measured best; see docs/results/scores.md."""
    allocate: Annotated[Allocate, _named("method")] = Allocation()
    """Allocation of the budget among layers."""
    compensate: Annotated[Repair, _named("method")] = ClosedForm()
    """Update of the kept weights that compensates for the removed units."""
    recover: Annotated[Recover | None, _counted("tokens")] = None
    """Language models: training of the pruned model towards the dense one, after the compensation; a
    number is its `tokens`. Null: none."""
    rounds: PositiveInt = 1
    """Number of pruning rounds. Each round recalibrates on the pruned model and keeps the same
    fraction of the previous round. Only the choice of units carries over; weights are compensated once, at
    the end."""
    targets: dict[str, dict[str, Any]] = Field(default_factory=lambda: dict(DEFAULT_TARGETS))
    """Export targets and their settings; `numprune-export targets` lists them."""
    evaluation: Texts
    """Held-out text for perplexity, in `packed` windows; or labelled examples for the scores of the
    task."""
    tasks: Tasks | None = None
    """Language models: lm-eval tasks in addition to perplexity."""
    parity: Parity = Parity()
    benchmark: Benchmark = Benchmark()
    gate: Gate = Gate()
    """Limits that `numprune-export check` applies to the run's report."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the `random` score; text windows have separate seeds."""
    threads: PositiveInt | None = None
    """CPU threads of all stages except the benchmark; null: all cores."""
    device: Annotated[
        str, AfterValidator(_known_device), Field(json_schema_extra={"pattern": _DEVICE})
    ] = "auto"
    """Device of calibration, pruning and evaluation: `cpu`, `cuda` or `cuda:N`. `auto`: the GPU, if
    PyTorch has one with room for pruning (block by block, if the model can be streamed), else the CPU. Artifacts are
    measured on the device of their target."""
    stream_weights: bool | Literal["auto"] = "auto"
    """Decoders in safetensors or GGUF: read each block while it is in use, instead of the whole model.
    `auto`: if two copies of the model do not fit into the memory of `device`. The results are the
    same."""
    matmul_precision: Precision = "auto"
    """Precision of fp32 matmuls during pruning: calibration, gradients, refits. `auto`: `bfloat16`
    on CPUs with instructions for it, else `medium`. `bfloat16`: layers of a block multiply with 8-bit
    significands, twice as fast; residual stream, norms, moments and solves stay in fp32 and fp64.
    `high`, `medium`: PyTorch may reduce precision (TF32 on a GPU). `highest`: plain fp32.
    Evaluation, parity and benchmark always use plain fp32."""

    @model_validator(mode="before")
    @classmethod
    def _composed(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        content = present_names(content)
        return merged(content, labelled=_kind_of_texts(content.get("calibration")) == "labelled")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        conflicting = list(conflicts(self))
        if conflicting:
            raise ConflictingSettings(conflicting)
        return self


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML, with all defaults."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def schema_json() -> str:
    """The schema of recipes as JSON text, as shipped in recipes/schema.json."""
    content = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Recipe.model_json_schema(),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
