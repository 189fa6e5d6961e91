"""TensorRT and TensorRT-RTX: all differences between the two and between their versions.

Each library is loaded once per process, with one logger, because it keeps the first logger it gets.
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
    """One of the two libraries. `module` is untyped: neither library has type information."""

    target: str
    module: Any
    logger: Any

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def title(self) -> str:
        """Name and version for messages, for example `TensorRT 10.13`."""
        return f"{NAMES[self.target]} {self.version}"

    @property
    def ahead_of_time(self) -> bool:
        """Whether engines are built for named GPUs, without a GPU."""
        return self.target == "trt-rtx"

    @contextmanager
    def listening(self) -> Iterator[list[Message]]:
        """Collect warnings and errors, oldest first, within a `with` block."""
        messages: list[Message] = []
        self.logger.listeners.append(messages)
        try:
            yield messages
        finally:
            self.logger.listeners.remove(messages)

    @property
    def strongly_typed(self) -> bool:
        """Whether networks can be strongly typed: since TensorRT 10; always so since 11."""
        return "STRONGLY_TYPED" in self.module.NetworkDefinitionCreationFlag.__members__

    def builder(self) -> Any:
        """An IBuilder.

        Raises:
            DeviceError: the builder needs a GPU, and it is missing or its driver is too old.
        """
        with self.listening() as messages:
            try:
                builder = self.module.Builder(self.logger)
            except TypeError:  # the bindings raise it for a null pointer
                builder = None
        if builder is None:
            reason = messages[0].text if messages else "no reason given"
            raise DeviceError(
                f"{self.title} cannot start its builder: {reason}",
                hint="run on a machine with an NVIDIA GPU and a current driver (`nvidia-smi`)",
            )
        return builder

    def network(self, builder: Any) -> Any:
        """An empty INetworkDefinition, strongly typed where supported."""
        flags = self.module.NetworkDefinitionCreationFlag.__members__
        flag = "STRONGLY_TYPED" if self.strongly_typed else "EXPLICIT_BATCH"
        return builder.create_network(1 << int(flags[flag]))

    def parser(self, network: Any) -> Any:
        return self.module.OnnxParser(network, self.logger)

    def asks(self, parser: Any, graph: Path) -> bool:
        """Whether the parser reports that it supports the whole graph; may modify its network."""
        content = graph.read_bytes()
        if hasattr(parser, "supports_model_v2"):
            return bool(parser.supports_model_v2(content, str(graph)))
        answer = parser.supports_model(content, str(graph))
        return bool(answer[0] if isinstance(answer, tuple) else answer)

    def serialize(self, builder: Any, network: Any, config: Any, file: BinaryIO) -> bool:
        """Build an engine into an open file; False if the builder fails.

        Versions that support it stream the engine in pieces, so it is never whole in memory.

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
        """Allow attention without a fused kernel to be decomposed; returns their number.

        Since TensorRT 10.14 the parser converts the operator Attention to one layer.
        """
        boundary = getattr(self.module.LayerType, "ATTENTION_INPUT", None)
        count = 0
        for index in range(network.num_layers if boundary is not None else 0):
            layer = network.get_layer(index)
            if layer.type == boundary:
                # The bindings return the base class of a layer.
                layer.__class__ = self.module.IAttentionInputLayer
                layer.attention.decomposable = True
                count += 1
        return count


@cache
def load(target: str) -> Toolkit:
    """The library of a target.

    Raises:
        MissingExtraError: it is not installed, or it cannot be loaded.
    """
    try:
        module = require(MODULES[target], extra=target)
    except MissingExtraError as error:
        raise MissingExtraError(str(error), hint=INSTALL[target]) from None
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"`{MODULES[target]}` is installed but cannot be loaded: {error}", hint=INSTALL[target]
        ) from None
    return Toolkit(target, module, collector(module))
