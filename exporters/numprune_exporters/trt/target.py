"""The `trt` and `trt-rtx` targets: engines built from the slot graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from numprune_export.core.errors import MissingExtraError, RecipeError
from numprune_export.export.artifact import Artifact, Network
from numprune_export.export.decoder import Decoder
from numprune_export.export.encoder import Encoder
from numprune_export.export.exporter import Availability, require_network
from numprune_export.export.runner import Device
from numprune_exporters.graphs.activations import refuse_activation
from numprune_exporters.runners.decoder import CheckedRunner
from numprune_exporters.trt import toolkit
from numprune_exporters.trt.settings import EngineSettings, TrtRtxSettings, TrtSettings, profiles


class _EngineExporter(ABC):
    """Behaviour common to both targets."""

    name: ClassVar[str]
    device: ClassVar[Device] = "cuda"
    summary: ClassVar[str]
    settings: ClassVar[type[BaseModel]]
    networks: ClassVar[frozenset[Network]] = frozenset({"decoder"})

    def check(self, network: Decoder | Encoder, settings: BaseModel, longest: int) -> None:
        """See ChecksNetworks.check."""
        require_network(self, network.kind)
        assert isinstance(network, Decoder)
        refuse_activation(network.activation)
        slots = profiles(network, self._checked(settings), self.name).capacity.max
        if longest > slots:
            raise RecipeError(
                f"`targets.{self.name}.decode.capacity.max`: the recipe runs sequences of `{longest}`"
                f" tokens, and the cache has `{slots}` slots",
                hint=f"raise it to {longest}, or run shorter sequences",
            )

    def _checked(self, settings: BaseModel) -> EngineSettings:
        if not isinstance(settings, EngineSettings) or not isinstance(settings, self.settings):
            raise RecipeError(
                f"`{type(settings).__name__}` are not settings of the target `{self.name}`",
                hint="give the settings class of the target that exports",
            )
        return settings

    @abstractmethod
    def availability(self) -> Availability:
        """See Exporter.availability."""

    def export(self, network: Decoder | Encoder, folder: Path, settings: BaseModel) -> Artifact:
        """See Exporter.export.

        Raises:
            UnsupportedModelError: an encoder, or no graph can be built in the requested dtype.
            RecipeError: a profile exceeds the model, or the workspace is too small.
            DeviceError: the build needs a GPU that is missing, too old or full.
            InputError: the timing cache cannot be used.
            OutputError: a file cannot be written.
        """
        # Imported here: opening an artifact must import neither the graph writer nor torch.
        from numprune_exporters.trt.build.artifact import make

        require_network(self, network.kind)
        assert isinstance(network, Decoder)
        return make(toolkit.load(self.name), network, folder, self._checked(settings))

    def open(
        self, artifact: Artifact, *, threads: int, capacity: int | None = None
    ) -> CheckedRunner:
        """See Exporter.open.

        Raises:
            InputError: a file is missing or altered, or capacity is missing or outside the profile.
            MissingExtraError: the toolkit or the CUDA bindings are not installed.
            DeviceError: there is no GPU, or the engine does not run on it.
        """
        from numprune_exporters.trt.run.open import open_engine

        return open_engine(artifact, threads=threads, capacity=capacity)

    def graph_cannot_run(self, artifact: Artifact) -> str | None:
        """See GraphBacked.graph_cannot_run."""
        from numprune_exporters.trt.run import open_graph as graph_opener

        return graph_opener.cannot_run(artifact)

    def open_graph(self, artifact: Artifact, *, threads: int, capacity: int) -> CheckedRunner:
        """See GraphBacked.open_graph.

        Raises:
            UnsupportedModelError: the graph was not kept, or ONNX Runtime's CPU cannot run its dtype.
            InputError: a file is missing or altered, or capacity is outside the engine's profile.
            MissingExtraError: onnxruntime is not installed.
        """
        from numprune_exporters.trt.run.open_graph import open_graph

        return open_graph(artifact, threads=threads, capacity=capacity)


class TrtExporter(_EngineExporter):
    """Builds on the GPU that runs the engine."""

    name: ClassVar[str] = "trt"
    summary: ClassVar[str] = "TensorRT engine, built and run on this machine's GPU"
    settings: ClassVar[type[BaseModel]] = TrtSettings

    def availability(self) -> Availability:
        """See Exporter.availability."""
        from numprune_exporters.cuda.device import why_none

        try:
            kit = toolkit.load(self.name)
        except MissingExtraError as error:
            return Availability(False, str(error), install=error.hint)
        missing = why_none()
        if missing is not None:
            return Availability(False, f"{kit.title}, {missing}")
        return Availability(True, kit.title)


class TrtRtxExporter(_EngineExporter):
    """Builds without a GPU, for named GPUs or for all from Ampere on."""

    name: ClassVar[str] = "trt-rtx"
    summary: ClassVar[str] = "TensorRT-RTX engine, built ahead of time on any machine"
    settings: ClassVar[type[BaseModel]] = TrtRtxSettings

    def availability(self) -> Availability:
        """See Exporter.availability."""
        from numprune_exporters.trt.placement import why_not_here

        try:
            kit = toolkit.load(self.name)
        except MissingExtraError as error:
            return Availability(False, str(error), install=error.hint)
        return Availability(True, kit.title, cannot_run=why_not_here(kit))
