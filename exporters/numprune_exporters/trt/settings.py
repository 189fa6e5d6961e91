"""Recipe settings under `targets.trt` and `targets.trt-rtx`, and the profiles they give."""

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
    """Smallest, tuned and largest size of a dimension. Omitted values are chosen automatically."""

    min: int | None = Field(default=None, ge=1)
    opt: int | None = Field(default=None, ge=1)
    max: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Sizes:
        given = [size for size in (self.min, self.opt, self.max) if size is not None]
        if given != sorted(given):
            raise ValueError(f"{given} are not in the order min <= opt <= max")
        return self

    def span(self, smallest: int, best: int, largest: int) -> Span:
        """These sizes; an omitted one is the default argument, moved into order."""
        low = smallest if self.min is None else self.min
        high = largest if self.max is None else self.max
        if self.max is None:
            high = max(high, low, self.opt or 0)
        if self.min is None:
            low = min(low, high, self.opt or high)
        return Span(low, min(max(best, low), high) if self.opt is None else self.opt, high)


class Prefill(_Strict):
    """Shapes of prompts."""

    batch: Sizes = Sizes()
    """Prompts per batch; default 1, 1, 4."""
    length: Sizes = Sizes()
    """Tokens of a prompt; default 1, 128, 1024, at most the model's positions."""
    positions: Sizes = Sizes()
    """Tokens of a prompt whose logits are returned; default 1, 1, longest prompt. With a large
    vocabulary the largest value dominates activation memory."""


class Decode(_Strict):
    """Shapes of decode steps."""

    batch: Sizes = Sizes()
    """Sequences per batch; default: `prefill.batch`."""
    capacity: Sizes = Sizes()
    """Slots of the KV cache, prompt and generated; default 1, 1024, the model's positions. The
    largest is rounded up for memory alignment."""


class EngineSettings(_Strict):
    """Settings common to both targets."""

    dtype: Dtype = "float16"
    """Dtype of weights, activations and KV cache. Norms, softmax and logits are always fp32."""
    graph: Graph = "auto"
    """`fused`: one Attention operator per layer. `decomposed`: basic operators. `auto`: the first
    of these that the parser accepts and the builder builds."""
    prefill: Prefill = Prefill()
    decode: Decode = Decode()
    workspace_mib: int | None = Field(default=None, ge=1)
    """Limit of workspace memory in MiB; null: the device's memory."""
    tf32: bool = False
    """Allow TF32: fp32 matmuls round their inputs to 10 bits of mantissa."""
    refittable: bool = False
    """Build an engine whose weights can be replaced."""
    stripped: bool = False
    """Build an engine without weights; opening it reads them from the graph."""
    repeat_builds: int = Field(default=1, ge=1, le=16)
    """Number of engines to build. Each is timed separately: the variance of rebuilds."""
    keep_graph: bool = True
    """Keep the ONNX graph beside the engine, to compare the engine with it."""

    @model_validator(mode="after")
    def _weights_somewhere(self) -> EngineSettings:
        if self.stripped and not self.keep_graph:
            raise ValueError(
                "a `stripped` engine reads its weights from the graph: set keep_graph: true"
            )
        return self


class TrtSettings(EngineSettings):
    """Recipe settings under `targets.trt`."""

    optimization_level: int | None = Field(default=None, ge=0, le=5)
    """Builder optimization level; higher builds longer. null: TensorRT's default, 3."""
    timing_cache: str | None = "timing.cache"
    """File of kernel timings kept across builds, relative to the target's folder in the run, or
    absolute; null: none."""
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    """Further GPUs that the engine may run on."""
    version_compatible: bool = False
    """Allow later TensorRT versions of the same major version to run the engine."""


class TrtRtxSettings(EngineSettings):
    """Recipe settings under `targets.trt-rtx`."""

    compute_capabilities: tuple[ComputeCapability, ...] = Field(default=(), strict=False)
    """GPUs to build for; empty: portable, from Ampere on."""


def profiles(decoder: Decoder, settings: EngineSettings, target: str) -> Profiles:
    """The engine's profiles for this model.

    Raises:
        RecipeError: a size exceeds the model's positions or another profile limit.
    """
    positions = decoder.max_positions
    prefill, decode = settings.prefill, settings.decode
    batch = prefill.batch.span(1, 1, _LARGEST_BATCH)
    longest = min(_LONGEST_PROMPT, positions, decode.capacity.max or positions)
    length = prefill.length.span(1, min(_COMMON_PROMPT, longest), longest)
    capacity = decode.capacity.span(1, min(_LONGEST_PROMPT, positions), positions)
    chosen = Profiles(
        prefill_batch=batch,
        length=length,
        positions=prefill.positions.span(1, 1, length.max),
        decode_batch=decode.batch.span(batch.min, batch.opt, batch.max),
        capacity=capacity,
        model_positions=positions,
    )
    _check(chosen, f"targets.{target}")
    token_bytes = decoder.head_dim * ITEM_BYTES[settings.dtype]
    return replace(chosen, capacity=replace(capacity, max=aligned(capacity.max, token_bytes)))


def _check(chosen: Profiles, prefix: str) -> None:
    positions = chosen.model_positions
    limits = (
        ("prefill.length.max", chosen.length.max, positions, "the model has positions"),
        ("decode.capacity.max", chosen.capacity.max, positions, "the model has positions"),
        ("prefill.positions.max", chosen.positions.max, chosen.length.max, "a prompt has tokens"),
        ("prefill.length.max", chosen.length.max, chosen.capacity.max, "the cache has slots"),
        (
            "prefill.batch.max",
            chosen.prefill_batch.max,
            chosen.decode_batch.max,
            "rows are decoded",
        ),
    )
    for key, size, limit, available in limits:
        if size > limit:
            raise RecipeError(
                f"`{prefix}.{key}`: `{size}` is more than {available} (`{limit}`)",
                hint=f"set it to at most {limit}",
            )
    if chosen.prefill_batch.min < chosen.decode_batch.min:
        raise RecipeError(
            f"`{prefix}.decode.batch.min`: `{chosen.decode_batch.min}` is more than the smallest"
            f" prompt batch (`{chosen.prefill_batch.min}`)",
            hint="lower it: decode must accept every prompt batch",
        )
