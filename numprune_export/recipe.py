"""The recipe: one strict, versioned YAML file from model to verdict. Defaults live here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
    ValidationError,
    model_validator,
)

from numprune_export.allocate import Allocation
from numprune_export.compensate.bias import Bias
from numprune_export.compensate.closed_form import ClosedForm
from numprune_export.compensate.none import Nothing
from numprune_export.corpus import Corpus
from numprune_export.errors import RecipeError
from numprune_export.fisher.budget import Search
from numprune_export.fisher.latency_budget import LatencyBudget
from numprune_export.fisher.tuning_methods import Refit, ScalarTuning
from numprune_export.score import Score
from numprune_export.score.wanda import Wanda
from numprune_export.strict import Strict
from numprune_export.tasks import glue
from numprune_export.tasks.labelled import LabelledData

DEFAULT_TARGETS: dict[str, dict[str, Any]] = {"onnx": {}}


def _named(key: str) -> BeforeValidator:
    """Let a lone string stand for a section with one key: `score: wanda`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


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
    """Interleaved rounds; every contender runs once in each."""
    threads: PositiveInt = 1
    """CPU threads of every contender."""
    reference: bool = True
    """Time PyTorch in the same rounds."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the bootstrap behind the confidence intervals."""


def _kind_of_allocation(value: Any) -> str:
    method = value.get("method") if isinstance(value, Mapping) else getattr(value, "method", None)
    return method if method in ("search", "latency") else "threshold"


Allocate = Annotated[
    Annotated[Allocation, Tag("threshold")]
    | Annotated[Search, Tag("search")]
    | Annotated[LatencyBudget, Tag("latency")],
    Discriminator(_kind_of_allocation),
]
"""Thresholds over all units, the exact search under a budget of cost, or one of milliseconds."""
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
    calibration: Texts
    """What scores and compensation are computed on: plain text for a language model, labelled
    examples (`files`) for a model with a task head."""
    score: Annotated[Score, _named("method")] = Wanda()
    """What is worth keeping. The default is the one that measured best; see docs/methods.md."""
    allocate: Annotated[Allocate, _named("method")] = Allocation()
    """How the budget is shared among layers."""
    compensate: Annotated[Repair, _named("method")] = ClosedForm()
    """How the kept weights make up for the removed ones."""
    targets: dict[str, dict[str, Any]] = Field(default_factory=lambda: dict(DEFAULT_TARGETS))
    """Export targets and their settings; `numprune-export targets` lists them."""
    evaluation: Texts
    """Held-out text for perplexity, its windows always `packed`; or labelled examples for the task's
    own scores."""
    parity: Parity = Parity()
    benchmark: Benchmark = Benchmark()
    seed: Annotated[int, Field(ge=0)] = 0
    """For the `random` score; text windows have seeds of their own."""
    threads: PositiveInt | None = None
    """CPU threads of everything but the benchmark; null: all cores."""

    @model_validator(mode="after")
    def _full_windows(self) -> Recipe:
        if isinstance(self.evaluation, Corpus) and self.evaluation.windows != "packed":
            raise ValueError(
                "`evaluation.windows` must be `packed`: perplexity is over full windows"
            )
        return self


def builtin_dir() -> Path:
    """Where the shipped recipes are: inside the wheel, or beside the package in a checkout."""
    packaged = Path(__file__).with_name("_recipes")
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "recipes"


def builtin_names() -> list[str]:
    """Of the shipped files; `glue.table()` has more, which no file holds."""
    return sorted(path.stem for path in builtin_dir().glob("*.yaml"))


@dataclass(frozen=True)
class Named:
    """A recipe with its name, and the folder that its relative paths are looked up in first."""

    recipe: Recipe
    name: str
    folder: Path


def named(name: str, changes: Sequence[str] = ()) -> Named:
    """A recipe from a file, by the name of a shipped one, or from the table of GLUE and SQuAD.

    Raises:
        RecipeError: there is none, or something in it is not allowed.
    """
    if not Path(name).is_file() and name in glue.table():
        content = _from_table(glue.entry(name))
        for change in changes:
            _apply(content, change)
        return Named(parse(content, name), name, Path.cwd())
    path = locate(name)
    return Named(load(path, changes), path.stem, path.parent)


def _from_table(entry: glue.Entry) -> dict[str, Any]:
    """The published method on a published task (Kwon et al. 2022), with the full refit."""
    return {
        "version": 1,
        "model": entry.model,
        "keep": 0.6,
        "calibration": entry.calibration,
        "evaluation": entry.evaluation,
        "score": "fisher",
        "allocate": {"method": "search", "length": entry.mean_length},
        "compensate": "refit",
    }


def locate(name: str) -> Path:
    """A recipe file, or the name of a shipped one.

    Raises:
        RecipeError: there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if name in builtin_names():
        return builtin_dir() / f"{name}.yaml"
    close = difflib.get_close_matches(path.stem, [*builtin_names(), *glue.table()], n=1)
    raise RecipeError(
        f"no recipe `{name}`: neither a file nor a shipped recipe",
        hint=f"did you mean `{close[0]}`?" if close else f"shipped: {', '.join(builtin_names())}",
    )


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, refusing a key given twice where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key `{key}` is given twice")
        return super().construct_mapping(node, deep)


def load(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` changes to it before it is checked.

    Raises:
        RecipeError: not readable, not YAML, or something in it is not allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read `{path}`: {error}", hint="check the file") from None
    except yaml.YAMLError as error:
        raise RecipeError(
            f"`{path}` is not YAML: {' '.join(str(error).split())}", hint="mend its syntax"
        ) from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"`{path}` is not a recipe", hint="it must be a mapping with `version: 1`"
        )
    for change in changes:
        _apply(content, change)
    return parse(content, path.name)


def parse(content: dict[str, Any], name: str) -> Recipe:
    """Check a recipe's content; `name` is used in messages.

    Raises:
        RecipeError: the first thing in it that is not allowed, by its dotted key.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _explain(error, name) from None


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise RecipeError(
            f"`--set {change}` is not `key=value`", hint="for example `--set keep=0.7`"
        )
    *path, last = key.split(".")
    for part in path:
        inner = content.get(part)
        if isinstance(inner, str):
            inner = {"source" if part == "model" else "method": inner}
        content[part] = dict(inner) if isinstance(inner, dict) else {}
        content = content[part]
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"`{value}` in `--set {change}` is not YAML", hint="quote it") from None


def _explain(error: ValidationError, name: str) -> RecipeError:
    first = error.errors()[0]
    # Union members add their tag to the location: `score.numerical.penalty` reads `score.penalty`.
    location = [str(part) for part in first["loc"]]
    if len(location) > 1 and location[0] in UNIONS:
        del location[1]
    key = ".".join(location) or "recipe"
    message = first["msg"][0].lower() + first["msg"][1:]
    value = f" (got `{first['input']}`)" if isinstance(first["input"], str | int | float) else ""
    if first["type"] == "extra_forbidden":
        return RecipeError(f"{name}: unknown key `{key}`", hint=_closest(location))
    if first["type"] == "union_tag_invalid":
        message = f"unknown method, expected one of {first['ctx']['expected_tags']}"
        value = f" (got `{first['ctx']['tag']}`)"
    more = f"; {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return RecipeError(
        f"{name}: `{key}`: {message}{value}{more}",
        hint="see recipes/schema.json, or `numprune-export schema`",
    )


def _closest(location: list[str]) -> str:
    """Which known key an unknown one resembles, looked up anywhere in the schema."""
    known = set(Recipe.model_fields)
    for section in Recipe.model_json_schema()["$defs"].values():
        known |= set(section.get("properties", {}))
    close = difflib.get_close_matches(location[-1], sorted(known), n=1)
    return f"did you mean `{close[0]}`?" if close else "see `numprune-export schema` for all keys"


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
