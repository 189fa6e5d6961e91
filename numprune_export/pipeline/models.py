"""The models of a run, each read from disk when a stage first needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.stage import key_of
from numprune_export.models.checkpoint.load import (
    Loaded,
    load,
    load_source,
    load_tokenizer,
    skeleton,
)
from numprune_export.models.checkpoint.source import Source
from numprune_export.models.checkpoint.streamed import read_blocks, read_streamed, streamable
from numprune_export.models.checkpoint.weight_files import stored_dtype
from numprune_export.models.device import Placement, Wanted, on, place
from numprune_export.models.family import Family
from numprune_export.models.site import Site
from numprune_export.numerics.arithmetic import solves_on
from numprune_export.numerics.ranks import here
from numprune_export.pruning import rewrite
from numprune_export.pruning.plan import Plan

Variant = Literal["dense", "pruned"]
VARIANTS: tuple[Variant, ...] = ("dense", "pruned")


class Dense:
    """The model that the recipe names."""

    def __init__(
        self,
        source: Source,
        dtype: str,
        *,
        single_query_heads: bool = False,
        device: str = "cpu",
        stream_weights: bool | None = False,
    ) -> None:
        """`device`: as in a recipe. `stream_weights` None: as the memory of the device demands."""
        self.source = source
        self._device, self._stream = device, stream_weights
        self.family: Family = source.family
        if single_query_heads:
            self.family = self.family.with_single_query_heads()
        self._dtype_name = dtype
        self._blocks = source.path if source.kind == "folder" else None
        self.warnings: list[str] = []
        """What the reader of a report should know of how this model was read."""

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of the weights during pruning and when saved."""
        named = self._dtype_name
        dtype: torch.dtype = getattr(
            torch, stored_dtype(self.source.weights) if named == "auto" else named
        )
        return dtype

    @cached_property
    def fingerprint(self) -> str:
        """See Source.fingerprint: every weight is read."""
        return self.source.fingerprint()

    @cached_property
    def key(self) -> str:
        return key_of(self.fingerprint, str(self.dtype).removeprefix("torch."))

    @cached_property
    def loaded(self) -> Loaded:
        return load_source(self.source, self.dtype)

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """Modules and shapes, on the `meta` device: no weights are read."""
        return skeleton(self.source)

    @property
    def embeddings(self) -> int:
        """Token ids go from 0 to one less."""
        return int(self.skeleton.config.vocab_size)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Read alone: a run with nothing left to do reads no weights."""
        return load_tokenizer(self.source)

    def require_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of a model that needs one.

        Raises:
            InputError: there is none.
        """
        if self.tokenizer is None:
            raise InputError(
                f"`{self.source.reference}` has no tokenizer",
                hint="put its tokenizer files beside it",
            )
        return self.tokenizer

    @property
    def model(self) -> PreTrainedModel:
        """The model on the CPU, which artifacts are exported from."""
        return self.loaded.model

    @cached_property
    def placement(self) -> Placement:
        """The device on which the model is pruned and judged.

        Raises:
            DeviceError: PyTorch has no such device, or it has too little memory.
            RecipeError: the checkpoint cannot be streamed as the recipe says.
        """
        can_stream = self._stream is not False and streamable(self.source)
        if self._stream and not can_stream:
            raise RecipeError(
                f"`stream_weights: true`, but `{self.source.reference}` cannot be read block by block",
                hint="give a decoder in safetensors or GGUF, or set `stream_weights: false`",
            )
        wanted = Wanted.of(self.skeleton, self.family, self.dtype.itemsize, can_stream=can_stream)
        return place(self._device, wanted, streamed=self._stream)

    @property
    def weight_bytes(self) -> int:
        """Of all weights."""
        weights = sum(int(weight.numel()) for weight in self.skeleton.parameters())
        return self.dtype.itemsize * weights

    @property
    def device(self) -> torch.device:
        return self.placement.device

    @cached_property
    def placed(self) -> PreTrainedModel:
        """The model on `device`: that of calibration, pruning and evaluation."""
        placed: PreTrainedModel = (
            read_streamed(self._blocks, self.dtype, self.device)
            if self.placement.streamed and self._blocks is not None
            else on(self.model, self.device)
        )
        return placed

    def read_blocks_from(self, folder: Path) -> None:
        """Stream the model from this folder, which holds the same weights as the source."""
        self._blocks = folder

    def streamed_on(self, device: torch.device) -> PreTrainedModel:
        """The streamed model on another device; its own is `placed`."""
        if device == self.device:
            return self.placed
        return read_streamed(self._blocks or self.source.path, self.dtype, device)

    @contextmanager
    def whole(self) -> Iterator[PreTrainedModel]:
        """The model on `device` with all of its blocks, within a `with` statement: text is
        generated token by token, and each token reads all weights.

        A device is filled block by block; on the CPU, weights stay in the mapped file.
        """
        if not self.placement.streamed:
            yield self.placed
            return
        if self.device.type != "cpu" and self._blocks is not None:
            yield read_blocks(self._blocks, self.dtype, self.device)
            return
        yield on(self.model, self.device)
        vars(self).pop("loaded", None)

    @property
    def computed_on(self) -> list[str]:
        """The kind of device, its arithmetic and the number of processes, on which digits depend,
        for keys of stages; nothing for one process and fp32 on the CPU, as earlier versions."""
        world, solves = here().world, solves_on(self.device)
        parts = {
            self.device.type: self.device.type != "cpu",
            "fp32 residual": self.dtype == torch.bfloat16,
            f"solves in {solves}": solves != "float64",
            f"{world} processes": world > 1,
        }
        return [part for part, holds in parts.items() if holds]


class Models:
    """The dense model and the pruned one, which is always read back from its checkpoint."""

    def __init__(
        self,
        dense: Dense,
        checkpoint: Path,
        checkpoint_key: str,
        plan: Plan,
        repaired: Path | None = None,
    ) -> None:
        """`repaired`: the checkpoint before a recovery, if there was one."""
        self._dense = dense
        self._checkpoint, self._repaired = checkpoint, repaired
        self._keys: dict[Variant, str] = {"dense": dense.key, "pruned": checkpoint_key}
        self.plan = plan

    @property
    def family(self) -> Family:
        return self._dense.family

    @property
    def dense(self) -> PreTrainedModel:
        return self._dense.model

    @cached_property
    def pruned(self) -> PreTrainedModel:
        return load(self._checkpoint)

    @property
    def device(self) -> torch.device:
        """Device on which quality is measured."""
        return self._dense.device

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the models between the dense and the saved one, and of the saved one."""
        return ("masked", *(() if self._repaired is None else ("repaired",)), "pruned")

    def on_device(self, name: str) -> Any:
        """The model `dense`, `masked`, `repaired` or `pruned` on that device."""
        if name == "masked":
            return self.masked()
        if name == "dense":
            return self._dense.placed
        if name == "repaired":
            assert self._repaired is not None
            return on(load(self._repaired), self.device)
        if self._dense.placement.streamed:
            return read_streamed(self._checkpoint, None, self.device)
        return on(self.pruned, self.device)

    def reference(self, variant: Variant) -> Any:
        """The model that artifacts are compared with: on the CPU, or streamed."""
        streamed = self._dense.placement.streamed
        return self.on_device(variant) if streamed else self.get(variant)

    def masked(self) -> Any:
        """The dense model with the removed units' columns zeroed: pruned, not compensated; on
        `device`."""
        return rewrite.masked(self._dense.placed, self.family, self.plan)

    def get(self, variant: Variant) -> PreTrainedModel:
        return self.dense if variant == "dense" else self.pruned

    def key(self, variant: Variant) -> str:
        return self._keys[variant]


@dataclass(frozen=True)
class RoundInput:
    """The model that a round starts from, made when a stage first needs it."""

    dense: Dense
    key: str
    earlier: Plan | None = None
    """How it came from the dense model; None: it is the dense model."""
    make: Callable[[], Any] | None = None

    @property
    def family(self) -> Family:
        return self.dense.family

    @cached_property
    def model(self) -> Any:
        """On the device of the dense model."""
        return self.dense.placed if self.make is None else self.make()

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return self.family.sites(self.model)

    def whole(self, plan: Plan) -> Plan:
        """A plan for this model as one for the dense model."""
        return plan if self.earlier is None else self.earlier.refined(plan)
