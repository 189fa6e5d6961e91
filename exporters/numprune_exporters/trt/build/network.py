"""Parse a graph to a network, or report why the parser refuses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_exporters.trt.messages import Message, reason
from numprune_exporters.trt.toolkit import Toolkit


class Refused(Exception):
    """A graph was refused; another graph may work."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(why)
        self.step = step
        """`parser`, `builder` or `check of dtypes`."""


@dataclass(frozen=True)
class Parsed:
    """A network, and the parser that owns its weights until the engine is built.

    Fields are in the order of destruction: the bindings keep no object alive for another.
    """

    parser: Any
    network: Any
    builder: Any


def parse(toolkit: Toolkit, graph: Path) -> Parsed:
    """Check support with a temporary parser, then parse.

    Raises:
        Refused: this version does not support an operator, type or shape of the graph.
        DeviceError: this version needs a GPU to parse, and there is none.
    """
    builder = toolkit.builder()
    _require_support(toolkit, builder, graph)
    network = toolkit.network(builder)
    parser = toolkit.parser(network)
    with toolkit.listening() as messages:
        accepted = parser.parse_from_file(str(graph))
    if not accepted or not network.num_layers:
        raise Refused("parser", _why(parser, messages))
    toolkit.allow_decomposition(network)
    return Parsed(parser, network, builder)


def _require_support(toolkit: Toolkit, builder: Any, graph: Path) -> None:
    network = toolkit.network(builder)  # kept: the parser holds a bare pointer to it
    parser = toolkit.parser(network)
    with toolkit.listening() as messages:
        accepted = toolkit.asks(parser, graph)
    if not accepted:
        raise Refused("parser", _why(parser, messages))


def _why(parser: Any, messages: list[Message]) -> str:
    if not parser.num_errors:
        return reason(messages) if messages else "the parser cannot read the file"
    error = parser.get_error(0)
    if not hasattr(error, "node_operator"):  # before TensorRT 10
        return f"node {error.node()}: {error.desc()}"
    return f"operator `{error.node_operator()}` at `{error.node_name()}`: {error.desc()}"
