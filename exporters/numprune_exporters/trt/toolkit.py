"""TensorRT and TensorRT-RTX, and all that differs between them and between their versions.

One module of this name is loaded per process, with one logger: the library keeps the first logger it
is given for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from numprune_export.core.errors import DeviceError, MissingExtraError
from numprune_export.core.optional import require
from numprune_exporters.trt.messages import Message, collector
from numprune_exporters.trt.plan_writer import file_writer

MODULES = {"trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}
NAMES = {"trt": "TensorRT", "trt-rtx": "TensorRT-RTX"}
INSTALL = {
    "trt": "pip install 'numprune-export[trt]' --extra-index-url https://pypi.nvidia.com",
    "trt-rtx": "pip install 'numprune-export[trt-rtx]'",
}


@dataclass(frozen=True)
class Toolkit:
    """One of the two libraries. `module` is untyped: both are compiled without type information."""

    target: str
    module: Any
    logger: Any

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def title(self) -> str:
        """Name and version, as people write them."""
        return f"{NAMES[self.target]} {self.version}"

    @property
    def ahead_of_time(self) -> bool:
        """Whether engines are built for stated GPUs, with none there."""
        return self.target == "trt-rtx"

    @contextmanager
    def listening(self) -> Iterator[list[Message]]:
        """Collect warnings and errors, oldest first, for the time of a `with`."""
        heard: list[Message] = []
        self.logger.listeners.append(heard)
        try:
            yield heard
        finally:
            self.logger.listeners.remove(heard)

    @property
    def strongly_typed(self) -> bool:
        """Whether a network's dtypes can be made binding: since TensorRT 10, unasked since 11."""
        return "STRONGLY_TYPED" in self.module.NetworkDefinitionCreationFlag.__members__

    def builder(self) -> Any:
        """An IBuilder.

        Raises:
            DeviceError: it needs a GPU, and there is none or its driver is too old.
        """
        with self.listening() as heard:
            try:
                made = self.module.Builder(self.logger)
            except TypeError:  # what the bindings make of a null pointer
                made = None
        if made is None:
            reason = heard[0].text if heard else "no reason given"
            raise DeviceError(
                f"{self.title} cannot start its builder: {reason}",
                hint="run on a machine with an NVIDIA GPU and a current driver (`nvidia-smi`)",
            )
        return made

    def network(self, builder: Any) -> Any:
        """An empty INetworkDefinition, strongly typed where that exists."""
        flags = self.module.NetworkDefinitionCreationFlag.__members__
        wanted = "STRONGLY_TYPED" if self.strongly_typed else "EXPLICIT_BATCH"
        return builder.create_network(1 << int(flags[wanted]))

    def parser(self, network: Any) -> Any:
        return self.module.OnnxParser(network, self.logger)

    def asks(self, parser: Any, graph: Path) -> bool:
        """Whether the parser says that it takes a whole graph; it may fill the network on the way."""
        content = graph.read_bytes()
        if hasattr(parser, "supports_model_v2"):
            return bool(parser.supports_model_v2(content, str(graph)))
        answer = parser.supports_model(content, str(graph))
        return bool(answer[0] if isinstance(answer, tuple) else answer)

    def serialize(self, builder: Any, network: Any, config: Any, file: BinaryIO) -> bool:
        """Build an engine into an open file; False where the builder fails.

        Where the version can, it is handed over in pieces, and takes no memory as a whole.

        Raises:
            OSError: the file cannot be written.
        """
        if not hasattr(builder, "build_serialized_network_to_stream"):
            plan = builder.build_serialized_network(network, config)
            if plan is not None:
                file.write(memoryview(plan))
            return plan is not None
        writer = file_writer(self.module, file)
        built = bool(builder.build_serialized_network_to_stream(network, config, writer))
        if writer.failure is not None:
            raise writer.failure
        return built

    def allow_decomposition(self, network: Any) -> int:
        """Let attention without a kernel of its own be built from parts; how many there are.

        Since TensorRT 10.14 the parser makes the operator Attention one layer.
        """
        boundary = getattr(self.module.LayerType, "ATTENTION_INPUT", None)
        found = 0
        for index in range(network.num_layers if boundary is not None else 0):
            layer = network.get_layer(index)
            if layer.type == boundary:
                # The bindings hand out the base class of a layer.
                layer.__class__ = self.module.IAttentionInputLayer
                layer.attention.decomposable = True
                found += 1
        return found


@cache
def load(target: str) -> Toolkit:
    """The library behind a target.

    Raises:
        MissingExtraError: it is not installed, or installed without its libraries.
    """
    try:
        module = require(MODULES[target], extra=target)
    except MissingExtraError as error:
        raise MissingExtraError(str(error), hint=INSTALL[target]) from None
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"`{MODULES[target]}` is installed and cannot be loaded: {error}", hint=INSTALL[target]
        ) from None
    return Toolkit(target, module, collector(module))
