"""What a target and a server packager must do. Importing it costs no torch.

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
    """What a target can do on this machine."""

    ready: bool
    """Whether it can export here."""
    detail: str
    """A version, or what is missing."""
    install: str | None = None
    """The line that installs what is missing."""
    cannot_run: str | None = None
    """Why its artifacts can be made here but not run, for example `no CUDA device`; None: they can."""


class Exporter(Protocol):
    """One target. Constructing it is free: `export` and `open` import the runtime."""

    name: ClassVar[str]
    device: ClassVar[Device]
    """Where its artifacts run."""
    summary: ClassVar[str]
    """One line for `numprune-export targets`."""
    settings: ClassVar[type[BaseModel]]
    """What a recipe may say under `targets.<name>`; strict, with defaults."""
    networks: ClassVar[frozenset[Network]]
    """What it can export."""

    def availability(self) -> Availability:
        """Cheap look at this machine: import and version, no model."""
        ...

    def export(self, network: Decoder | Encoder, folder: Path, settings: BaseModel) -> Artifact:
        """Write the artifact into the existing empty `folder`, its index included.

        Raises:
            UnsupportedModelError: this target cannot express the model; the message names what.
        """
        ...

    def open(
        self, artifact: Artifact, *, threads: int, capacity: int | None = None
    ) -> DecoderRunner | EncoderRunner:
        """Load an artifact.

        Args:
            artifact: Of this target.
            threads: Of the processor.
            capacity: The longest sequence (prompt and generated) that a decoder will hold, in tokens.
                An encoder holds nothing between two calls and takes every text that its positions do.

        Returns:
            The runner of `artifact.network`.

        Raises:
            InputError: a file is missing or is not what its hash says, or a decoder has no capacity.
            MissingExtraError: the runtime is not installed.
            DeviceError: the device is not there, too old, or out of memory.
        """
        ...


def require_network(exporter: Exporter, network: Network) -> None:
    """Refuse a model that a target cannot export.

    Raises:
        UnsupportedModelError: the target takes no such network.
    """
    if network not in exporter.networks:
        raise UnsupportedModelError(
            f"target `{exporter.name}` does not take {network}s yet", hint="use `--target onnx`"
        )


@runtime_checkable
class ChecksNetworks(Protocol):
    """A target that knows from shapes and settings what it cannot export: asked before any work."""

    def check(self, network: Decoder | Encoder, settings: BaseModel, longest: int) -> None:
        """Refuse what `Exporter.export` and `open` would refuse of this model, pruned or not.

        Args:
            network: Its tensors may be on the `meta` device: only shapes count.
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
