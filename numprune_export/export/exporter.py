"""Protocols of export targets and server packagers. Does not import torch.

Exporters import this module; nothing in `numprune_export` imports an exporter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.export.artifact import Artifact, Network
from numprune_export.export.decoder import Decoder
from numprune_export.export.encoder import Encoder
from numprune_export.export.runner import DecoderRunner, Device, EncoderRunner

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class Availability:
    """Whether a target works on this machine."""

    ready: bool
    """Whether it can export."""
    detail: str
    """The runtime's version, or the missing dependency."""
    install: str | None = None
    """The command that installs the missing dependency."""
    cannot_run: str | None = None
    """Reason why exported artifacts cannot run here, for example `no CUDA device`; or None."""


class Exporter(Protocol):
    """One export target. Its constructor is cheap: only `export` and `open` import the runtime."""

    name: ClassVar[str]
    device: ClassVar[Device]
    """The device on which its artifacts run."""
    summary: ClassVar[str]
    """One line for `numprune-export targets`."""
    settings: ClassVar[type[BaseModel]]
    """Schema of `targets.<name>` in a recipe; strict, with defaults."""
    networks: ClassVar[frozenset[Network]]
    """Kinds of network that it can export."""

    def availability(self) -> Availability:
        """Check imports and versions; cheap, no model is loaded."""
        ...

    def export(self, network: Decoder | Encoder, folder: Path, settings: BaseModel) -> Artifact:
        """Write the artifact and its index into `folder`, which exists and is empty.

        Raises:
            UnsupportedModelError: the target cannot express the model; the message names the
                feature.
        """
        ...

    def open(
        self, artifact: Artifact, *, threads: int, capacity: int | None = None
    ) -> DecoderRunner | EncoderRunner:
        """Load an artifact.

        Args:
            artifact: An artifact of this target.
            threads: Number of CPU threads.
            capacity: KV-cache capacity of a decoder: the maximum length of prompt and generated
                text, in tokens. Encoders ignore it.

        Returns:
            The runner of `artifact.network`.

        Raises:
            InputError: a file is missing or does not match its hash, or `capacity` is missing for a
                decoder.
            MissingExtraError: the runtime is not installed.
            DeviceError: the device is missing, too old, or out of memory.
        """
        ...


def require_network(exporter: Exporter, network: Network) -> None:
    """Check that a target can export this kind of network.

    Raises:
        UnsupportedModelError: it cannot.
    """
    if network not in exporter.networks:
        raise UnsupportedModelError(
            f"target `{exporter.name}` does not support {network}s yet", hint="use `--target onnx`"
        )


@runtime_checkable
class ChecksNetworks(Protocol):
    """A target that can reject unsupported models before the run starts, by shapes and settings."""

    def check(self, network: Decoder | Encoder, settings: BaseModel, longest: int) -> None:
        """Raise the errors that `export` and `open` would raise for this model, dense or pruned.

        Args:
            network: Tensors may be on the `meta` device; only shapes are used.
            settings: As for `export`.
            longest: Length of the longest sequence that the artifact must hold, in tokens.

        Raises:
            UnsupportedModelError: the target cannot express the model.
            RecipeError: the settings do not fit the model.
        """
        ...


@runtime_checkable
class GraphBacked(Protocol):
    """A target whose artifacts are compiled from an ONNX graph, which the artifact includes."""

    def graph_cannot_run(self, artifact: Artifact) -> str | None:
        """The reason why `open_graph` cannot work here: ONNX Runtime is missing, or lacks kernels
        for the dtype. None if it can."""
        ...

    def open_graph(self, artifact: Artifact, *, threads: int, capacity: int) -> DecoderRunner:
        """Open the graph in ONNX Runtime on the CPU, to separate graph errors from compiler errors.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
        """
        ...


class Packager(Protocol):
    """Packages an artifact for one inference server. Registered by entry point, like targets."""

    name: ClassVar[str]
    summary: ClassVar[str]
    settings: ClassVar[type[BaseModel]]

    def package(
        self, artifact: Artifact, tokenizer: Path, folder: Path, settings: BaseModel
    ) -> None:
        """Write the server's files into `folder`, which exists and is empty.

        Args:
            artifact: The artifact to serve; its files are checked against their hashes.
            tokenizer: Folder with the model's tokenizer files.
            folder: Output folder.
            settings: Of this packager's schema.

        Raises:
            UnsupportedModelError: the server cannot serve this artifact.
            InputError: a file is missing or does not match its hash.
        """
        ...
