"""The recipe: one strict, versioned YAML file from model to verdict. Defaults live here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
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
from numprune_export.data.corpus import Corpus
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
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.compensate.teacher_methods import Refit, ScalarTuning
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.wanda import Wanda
from numprune_export.recipe.aliases import present_names
from numprune_export.recipe.conflicts import ConflictingSettings, conflicts
from numprune_export.recipe.presets import Preset, merged

DEFAULT_TARGETS: dict[str, dict[str, Any]] = {"onnx": {}}


def _named(key: str) -> BeforeValidator:
    """Let a lone string stand for a section with one key: `score: wanda`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _counted(key: str) -> BeforeValidator:
    """Let a lone number stand for a section: `generated_text: 32`."""
    return BeforeValidator(
        lambda value: (
            {key: value} if isinstance(value, int) and not isinstance(value, bool) else value
        )
    )


class Model(Strict):
    """The dense model."""

    source: str
    """A Hugging Face folder, a `.gguf` file, a hub id, or `package:NAME/FILE` for a file that an
    installed Python package carries."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the model while it is pruned, and of the saved weights."""


class Parity(Strict):
    """How exactly an exported model must agree with PyTorch."""

    tolerance: PositiveFloat = 1.0e-4
    """Largest absolute difference of any logit from PyTorch computing in fp64."""
    rounding: NonNegativeFloat = 3.0
    """Where PyTorch's own error in the artifact's dtype on the same text, times this, is larger than
    `tolerance`, that is the limit: no runtime can be asked to be more exact than the arithmetic
    allows."""
    steps: PositiveInt = 32
    """Decode steps compared, and greedy tokens generated."""
    bisect: bool = True
    """When an artifact disagrees, export the model cut after fewer and fewer layers to name the first
    one that is wrong: about log2(layers) further exports."""


class Benchmark(Strict):
    """How dense and pruned are timed against each other."""

    prefill: PositiveInt = 128
    """Prompt tokens, for the time to the first token."""
    past: PositiveInt = 128
    """Tokens in the cache when decoding is timed."""
    decode_steps: PositiveInt = 16
    """Decode steps in one sample."""
    batch: PositiveInt = 1
    batches: tuple[PositiveInt, ...] = (1, 8, 32)
    """Of an encoder: batch sizes that are timed, each at all `lengths`."""
    lengths: tuple[PositiveInt, ...] = (16, 64, 128)
    """Of an encoder: tokens per text."""
    warmup: Annotated[int, Field(ge=0)] = 2
    """Rounds that are not counted."""
    samples: Annotated[int, Field(ge=5)] = 20
    """Interleaved rounds, at least; every contender runs once in each."""
    sessions: PositiveInt = 6
    """Times the artifacts are opened anew, the rounds shared among them. How fast a model runs
    depends by some percent on where its weights came to lie in memory: the intervals of the
    speed-ups are over sessions. From 3 on; of fewer, they are over rounds."""
    threads: PositiveInt = 1
    """CPU threads of every contender."""
    reference: bool = True
    """Time PyTorch in the same rounds."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the bootstrap behind the confidence intervals."""


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
"""Thresholds over all units, error curves, the exact search under a budget of cost, or one of
milliseconds."""


Repair = Annotated[
    ClosedForm | Bias | Nothing | ScalarTuning | Refit, Field(discriminator="method")
]
"""Repairs from the statistics of one model, or fits of a pruned model to a teacher."""

UNIONS = ("score", "allocate", "compensate", "calibration", "evaluation")
"""Keys whose value is one of several sections."""

_LABELLED = {*LabelledData.model_fields} - {*Corpus.model_fields}


def _kind_of_texts(value: Any) -> str:
    if isinstance(value, Mapping):
        return "labelled" if _LABELLED & value.keys() else "corpus"
    return "labelled" if isinstance(value, LabelledData) else "corpus"


Texts = Annotated[
    Annotated[Corpus, Tag("corpus")] | Annotated[LabelledData, Tag("labelled")],
    Discriminator(_kind_of_texts),
]
"""Plain text, or labelled examples where a key says so that only those have."""


class Recipe(Strict):
    """What `numprune-export run` does. Only `version`, `model`, `calibration` and `evaluation` have
    no default."""

    version: Literal[1]
    """Version of this schema."""
    model: Annotated[Model, _named("source")]
    """The dense model; a lone string is its `source`."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Fraction of the prunable block parameters that stay (not the fraction removed)."""
    method: Preset | None = None
    """A documented composition of what follows, up to `rounds`; a key given as well goes before it.
    `best`: quality first. `fast`: no gradients, one pass. `paper-numerical`, `paper-fisher`: as
    published."""
    query_heads: Literal["grouped", "single"] = "grouped"
    """Of a decoder. `grouped`: a KV head goes with all of its query heads, and every KV head serves
    as many as before. `single`: query heads go one by one, which needs a runtime that takes KV heads
    serving different numbers of them."""
    calibration: Texts
    """What scores and compensation are computed on: plain text for a language model, labelled
    examples (`files`) for a model with a task head."""
    generated_text: Annotated[GeneratedText, _counted("sequences")] = GeneratedText()
    """Of a language model: further calibration text that the dense model writes itself; a lone number
    is its `sequences`. Other kinds of text are served much better then, and the calibration's own
    kind a little worse."""
    score: Annotated[Score, _named("method")] = Wanda()
    """Which units are worth keeping. The default measured best; see docs/results/scores.md."""
    allocate: Annotated[Allocate, _named("method")] = Allocation()
    """How the budget is shared among layers."""
    compensate: Annotated[Repair, _named("method")] = ClosedForm()
    """How the kept weights make up for the removed ones."""
    rounds: PositiveInt = 1
    """Prune in this many rounds, each keeping the same fraction of the one before and calibrated on
    what that left; only the choice of units is carried on, the weights are repaired once at the
    end."""
    targets: dict[str, dict[str, Any]] = Field(default_factory=lambda: dict(DEFAULT_TARGETS))
    """Export targets and their settings; `numprune-export targets` lists them."""
    evaluation: Texts
    """Held-out text for perplexity, its windows always `packed`; or labelled examples for the task's
    own scores."""
    tasks: Tasks | None = None
    """Of a language model: tasks of lm-eval beside perplexity."""
    parity: Parity = Parity()
    benchmark: Benchmark = Benchmark()
    gate: Gate = Gate()
    """What `numprune-export check` asks of the run's report."""
    seed: Annotated[int, Field(ge=0)] = 0
    """For the `random` score; text windows have seeds of their own."""
    threads: PositiveInt | None = None
    """CPU threads of everything but the benchmark; null: all cores."""
    matmul_precision: Precision = "auto"
    """fp32 matrix products while pruning: calibration, gradients, refits. `auto`: `bfloat16` where the
    processor has instructions for it, else `medium`. `bfloat16` is twice as fast in layers of a block, which
    then multiply numbers of eight bits; residual stream, norms, moments and solves stay fp32 and fp64.
    `high` and `medium` let PyTorch shorten numbers (TF32 on a GPU); `highest` is plain fp32. What is
    evaluated, compared and timed is always plain."""

    @model_validator(mode="before")
    @classmethod
    def _composed(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        content = present_names(content)
        return merged(content, labelled=_kind_of_texts(content.get("calibration")) == "labelled")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        found = list(conflicts(self))
        if found:
            raise ConflictingSettings(found)
        return self


def dump(recipe: Recipe) -> str:
    """The recipe as resolved: every default written out, as YAML."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def schema_json() -> str:
    """The schema of recipes as JSON text, as shipped in recipes/schema.json."""
    content = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Recipe.model_json_schema(),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
