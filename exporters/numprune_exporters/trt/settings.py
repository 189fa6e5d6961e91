"""What a recipe may say under `targets.trt` and `targets.trt-rtx`, and the profiles that follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from numprune_export.core.errors import RecipeError
from numprune_export.export.decoder import Decoder
from numprune_exporters.trt.cache_layout import aligned
from numprune_exporters.trt.profiles import Profiles, Span

Dtype = Literal["float16", "bfloat16", "float32"]
Graph = Literal["auto", "fused", "decomposed"]
ComputeCapability = Literal["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"]

ITEM_BYTES: dict[Dtype, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
_LONGEST_PROMPT = 1024
_COMMON_PROMPT = 128
_LARGEST_BATCH = 4


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Sizes(_Strict):
    """Of one dimension: smallest, the one tuned for, largest. What is left out is chosen for you."""

    min: int | None = Field(default=None, ge=1)
    opt: int | None = Field(default=None, ge=1)
    max: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Sizes:
        given = [one for one in (self.min, self.opt, self.max) if one is not None]
        if given != sorted(given):
            raise ValueError(f"{given} are not in the order min <= opt <= max")
        return self

    def span(self, smallest: int, best: int, largest: int) -> Span:
        """These sizes, and the given ones, moved to fit, where none was said."""
        low = smallest if self.min is None else self.min
        high = largest if self.max is None else self.max
        if self.max is None:
            high = max(high, low, self.opt or 0)
        if self.min is None:
            low = min(low, high, self.opt or high)
        return Span(low, min(max(best, low), high) if self.opt is None else self.opt, high)


class Prefill(_Strict):
    """Prompts the engine takes."""

    batch: Sizes = Sizes()
    """Prompts at once; default 1, 1, 4."""
    length: Sizes = Sizes()
    """Tokens of a prompt; default 1, 128, 1024, as far as the model has positions."""
    positions: Sizes = Sizes()
    """Tokens of a prompt that get logits; default 1, 1, and the longest prompt. The largest decides
    on activation memory where a vocabulary is large."""


class Decode(_Strict):
    """Decode steps the engine takes."""

    batch: Sizes = Sizes()
    """Sequences at once; default that of `prefill.batch`."""
    capacity: Sizes = Sizes()
    """Slots of the KV cache, prompt and generated; default 1, 1024, all of the model's positions.
    The largest is rounded up to what memory alignment asks."""


class EngineSettings(_Strict):
    """What both targets have."""

    dtype: Dtype = "float16"
    """Of weights, activations and KV cache; norms, softmax and logits are fp32 all the same."""
    graph: Graph = "auto"
    """`fused`: one Attention operator per layer. `decomposed`: single operators. `auto`: the first of
    these that the parser takes and the builder builds."""
    prefill: Prefill = Prefill()
    decode: Decode = Decode()
    workspace_mib: int | None = Field(default=None, ge=1)
    """Limit on scratch memory, MiB; null: what the device has."""
    tf32: bool = False
    """Let fp32 matrix products round their inputs to 10 bits of mantissa."""
    refittable: bool = False
    """Keep what is needed to exchange the weights."""
    stripped: bool = False
    """Leave the weights out of the engine; they are put back from the graph."""
    repeat_builds: int = Field(default=1, ge=1, le=16)
    """Build this many engines, each timed apart: how much a rebuild alone changes."""
    keep_graph: bool = True
    """Keep the ONNX graph beside the engine, to check the engine against."""

    @model_validator(mode="after")
    def _weights_somewhere(self) -> EngineSettings:
        if self.stripped and not self.keep_graph:
            raise ValueError(
                "a `stripped` engine needs its weights from the graph: keep_graph: true"
            )
        return self


class TrtSettings(EngineSettings):
    """What a recipe may say under `targets.trt`."""

    optimization_level: int | None = Field(default=None, ge=0, le=5)
    """How long the builder looks for faster kernels; null: TensorRT's own choice, 3."""
    timing_cache: str | None = "timing.cache"
    """File with kernel timings, kept across builds: relative to the target's folder in the run, or
    absolute; null: none."""
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    """Which other GPUs the engine may run on."""
    version_compatible: bool = False
    """Let later TensorRT versions of the same major version run the engine."""


class TrtRtxSettings(EngineSettings):
    """What a recipe may say under `targets.trt-rtx`."""

    compute_capabilities: tuple[ComputeCapability, ...] = Field(default=(), strict=False)
    """GPUs to build for; empty: portable, from Ampere on."""


def profiles(decoder: Decoder, settings: EngineSettings, target: str) -> Profiles:
    """The engine's profiles for this model.

    Raises:
        RecipeError: the model has fewer positions, or the cache fewer slots, than were asked for.
    """
    positions = decoder.max_positions
    prefill, decode = settings.prefill, settings.decode
    batch = prefill.batch.span(1, 1, _LARGEST_BATCH)
    longest = min(_LONGEST_PROMPT, positions, decode.capacity.max or positions)
    length = prefill.length.span(1, min(_COMMON_PROMPT, longest), longest)
    capacity = decode.capacity.span(1, min(_LONGEST_PROMPT, positions), positions)
    found = Profiles(
        prefill_batch=batch,
        length=length,
        positions=prefill.positions.span(1, 1, length.max),
        decode_batch=decode.batch.span(batch.min, batch.opt, batch.max),
        capacity=capacity,
        model_positions=positions,
    )
    _check(found, f"targets.{target}")
    token_bytes = decoder.head_dim * ITEM_BYTES[settings.dtype]
    return replace(found, capacity=replace(capacity, max=aligned(capacity.max, token_bytes)))


def _check(found: Profiles, prefix: str) -> None:
    positions = found.model_positions
    limits = (
        ("prefill.length.max", found.length.max, positions, "the model has positions"),
        ("decode.capacity.max", found.capacity.max, positions, "the model has positions"),
        ("prefill.positions.max", found.positions.max, found.length.max, "a prompt has tokens"),
        ("prefill.length.max", found.length.max, found.capacity.max, "the cache has slots"),
        ("prefill.batch.max", found.prefill_batch.max, found.decode_batch.max, "rows are decoded"),
    )
    for key, size, limit, what in limits:
        if size > limit:
            raise RecipeError(
                f"`{prefix}.{key}`: `{size}` is more than {what} (`{limit}`)",
                hint=f"set it to at most {limit}",
            )
    if found.prefill_batch.min < found.decode_batch.min:
        raise RecipeError(
            f"`{prefix}.decode.batch.min`: `{found.decode_batch.min}` is more than the smallest"
            f" prompt batch (`{found.prefill_batch.min}`)",
            hint="every prompt that is taken must be decoded too",
        )
