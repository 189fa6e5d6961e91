"""The contract between this package and `exporters/`: what is exported, what comes out, who runs it.

Exporters import this module; nothing in `numprune_export` imports an exporter. Importing it costs
no torch: tensors are named in annotations only, so that a runtime can be measured without torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from numprune_export.core.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

Device = Literal["cpu", "cuda"]

Tokens = NDArray[np.int64]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """One linear layer: `weight` in PyTorch layout (out, in), `bias` (out,) or None."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class DecoderLayer:
    """One block of a rotary decoder: RMSNorm, grouped-query attention, RMSNorm, gated MLP.

    Widths differ from layer to layer. Query heads are ordered by the KV head that they read.
    """

    input_norm: Tensor
    query: Projection
    key: Projection
    value: Projection
    output: Projection
    query_norm: Tensor | None
    """RMSNorm weight over head_dim, applied per head before the rotation (Qwen3), or None."""
    key_norm: Tensor | None
    post_attention_norm: Tensor
    gate: Projection
    up: Projection
    down: Projection
    groups: tuple[int, ...]
    """Query heads of each KV head. Equal numbers stand side by side: there are at most as many `runs`
    as different numbers."""
    sliding_window: int | None
    """How many positions a token sees, itself included; None: all before it."""

    @property
    def channels(self) -> int:
        return int(self.up.weight.shape[0])

    @property
    def query_heads(self) -> int:
        return sum(self.groups)

    @property
    def kv_heads(self) -> int:
        return len(self.groups)

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Neighbouring KV heads with as many query heads each, as (KV heads, query heads of each)."""
        return tuple((len(list(run)), size) for size, run in groupby(self.groups))


@dataclass(frozen=True)
class Decoder:
    """A causal language model as its tensors: all that an exporter needs to write a graph.

    The rotation is the Llama one (first half against second half of the head). `cos` and `sin` of
    `position * inverse_frequencies` are multiplied by `rotary_scale`. The norm is
    x / sqrt(mean(x²) + norm_eps) * weight, computed in fp32.
    """

    name: str
    embedding: Tensor
    """(vocabulary, hidden)."""
    layers: tuple[DecoderLayer, ...]
    final_norm: Tensor
    head: Projection
    """(vocabulary, hidden); `head.weight is embedding` when the two are tied."""
    head_dim: int
    norm_eps: float
    activation: str
    """Name in transformers' ACT2FN: `silu`, `gelu`, `gelu_pytorch_tanh`, `relu`."""
    inverse_frequencies: Tensor
    """(head_dim / 2,), fp32."""
    rotary_scale: float
    max_positions: int

    @property
    def vocabulary(self) -> int:
        return int(self.embedding.shape[0])

    @property
    def hidden(self) -> int:
        return int(self.embedding.shape[1])

    @property
    def tied(self) -> bool:
        return self.head.weight is self.embedding


@dataclass(frozen=True)
class Artifact:
    """An exported model: a folder, its files with their hashes, and how it was made."""

    target: str
    folder: Path
    entry: str
    """The file a runtime opens, relative to `folder`."""
    files: Mapping[str, str]
    """Every file, external data included: relative name to sha256."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the exporter wants a reader to know: graph flavour, opset, versions. Always there: `dtype`
    (`float32`, `float16`, `bfloat16`), the precision of weights, activations and KV cache. Where one
    export was built several times, `builds` lists the entries, this one's `entry` first."""
    evidence: tuple[str, ...] = ()
    """Those of `files` that no runtime needs, kept to check the others against: the graph behind an
    engine, further builds of it. They do not count as size."""

    INDEX: ClassVar[str] = "artifact.json"

    @property
    def size_bytes(self) -> int:
        served = (name for name in self.files if name not in self.evidence)
        return sum((self.folder / name).stat().st_size for name in served)

    def save(self) -> None:
        """Write `artifact.json` beside the files."""
        content = {
            "target": self.target,
            "entry": self.entry,
            "files": dict(self.files),
            "facts": dict(self.facts),
            "evidence": list(self.evidence),
        }
        (self.folder / self.INDEX).write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Artifact:
        """Read `artifact.json`; the files themselves are not read.

        Raises:
            InputError: there is none, it is not valid, or a name in it leaves the folder.
        """
        index = folder / cls.INDEX
        try:
            content = json.loads(index.read_text())
            artifact = cls(
                content["target"], folder, content["entry"], content["files"], content["facts"],
                tuple(content["evidence"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"`{index}` is not a readable artifact index: {error}",
                hint="export the model again",
            ) from None
        for name in (artifact.entry, *artifact.files, *artifact.evidence):
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise InputError(
                    f"`{index}` names `{name}`, which is outside its folder",
                    hint="do not use this artifact: export the model again",
                )
        return artifact


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@dataclass(frozen=True)
class Availability:
    """What a target can do on this machine."""

    ready: bool
    """Whether it can export here."""
    detail: str
    """A version, or what is missing."""
    install: str | None = None
    """The line that installs what is missing."""
    cannot_run: str | None = None
    """Why its artifacts can be made here but not run, for example `no CUDA device`; None: they can."""


class DecoderRunner(Protocol):
    """A loaded decoder with its KV cache on the device. A context manager: it holds memory.

    Padding belongs to the runner: callers give right-padded rows and their true lengths.
    """

    def __enter__(self) -> DecoderRunner: ...
    def __exit__(self, *exc: object) -> None: ...

    def prefill(
        self, tokens: Tokens, lengths: Tokens | None = None, *, all_positions: bool = False
    ) -> Logits:
        """Start new sequences, forgetting any earlier ones.

        Args:
            tokens: (batch, length); row b is real up to lengths[b] and ignored after it.
            lengths: (batch,), each from 1 to length; None: every row is full.
            all_positions: return logits after every token instead of each row's last real one.

        Returns:
            fp32 logits, (batch, vocabulary), or (batch, length, vocabulary) with all_positions
            (values at padded positions are undefined).
        """
        ...

    def decode(self, tokens: Tokens) -> Logits:
        """Append one token per sequence.

        Args:
            tokens: (batch,), as many rows as the last prefill had.

        Returns:
            fp32 logits for the next token, (batch, vocabulary).
        """
        ...


@runtime_checkable
class AccountsMemory(Protocol):
    """A runner on a device of its own, which can say what it holds there."""

    def device_memory(self) -> Mapping[str, int]:
        """Bytes on the device now: of `weights`, `activations` and `kv_cache` those it knows."""
        ...


class Exporter(Protocol):
    """One target. Constructing it is free: `export` and `open` import the runtime."""

    name: ClassVar[str]
    device: ClassVar[Device]
    """Where its artifacts run."""
    summary: ClassVar[str]
    """One line for `numprune-export targets`."""
    settings: ClassVar[type[BaseModel]]
    """What a recipe may say under `targets.<name>`; strict, with defaults."""

    def availability(self) -> Availability:
        """Cheap look at this machine: import and version, no model."""
        ...

    def export(self, decoder: Decoder, folder: Path, settings: BaseModel) -> Artifact:
        """Write the artifact into the existing empty `folder`, its index included.

        Raises:
            UnsupportedModelError: this target cannot express the model; the message names what.
        """
        ...

    def open(self, artifact: Artifact, *, threads: int, capacity: int) -> DecoderRunner:
        """Load an artifact. `capacity` is the longest sequence (prompt and generated) it will hold.

        Raises:
            InputError: a file is missing or is not what its hash says.
            MissingExtraError: the runtime is not installed.
            DeviceError: the device is not there, too old, or out of memory.
        """
        ...


@runtime_checkable
class ChecksDecoders(Protocol):
    """A target that knows from shapes and settings what it cannot export: asked before any work."""

    def check(self, decoder: Decoder, settings: BaseModel, longest: int) -> None:
        """Refuse what `Exporter.export` and `open` would refuse of this model, pruned or not.

        Args:
            decoder: Its tensors may be on the `meta` device: only shapes count.
            settings: As for `export`.
            longest: Tokens of the longest sequence that the artifact will be opened for.

        Raises:
            UnsupportedModelError: this target cannot express the model.
            RecipeError: the settings do not fit the model.
        """
        ...


@runtime_checkable
class GraphBacked(Protocol):
    """A target whose artifacts were compiled from an ONNX graph that lies beside them."""

    def graph_cannot_run(self, artifact: Artifact) -> str | None:
        """Why `open_graph` would not work here: no ONNX Runtime, or none with kernels for the dtype."""
        ...

    def open_graph(self, artifact: Artifact, *, threads: int, capacity: int) -> DecoderRunner:
        """Run that graph by ONNX Runtime on the CPU: whether an error is the graph's or the compiler's.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
        """
        ...


class Packager(Protocol):
    """Makes what one inference server loads. Found by entry point, as targets are."""

    name: ClassVar[str]
    summary: ClassVar[str]
    settings: ClassVar[type[BaseModel]]

    def package(
        self, artifact: Artifact, tokenizer: Path, folder: Path, settings: BaseModel
    ) -> None:
        """Write into the existing empty `folder`.

        Args:
            artifact: What is served; its files are checked against their hashes.
            tokenizer: Folder with the tokenizer files of the model.

        Raises:
            UnsupportedModelError: this server cannot serve such an artifact.
            InputError: a file is missing or is not what its hash says.
        """
        ...
