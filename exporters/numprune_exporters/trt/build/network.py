"""A graph as the parser makes a network of it, or why it does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_exporters.trt.messages import Message, reason
from numprune_exporters.trt.toolkit import Toolkit


class Refused(Exception):
    """One graph was not taken; another one may be."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(why)
        self.step = step
        """`parser`, `builder` or `check of dtypes`."""


@dataclass(frozen=True)
class Parsed:
    """A network, and the parser that owns its weights until the engine is built.

    In the order in which they must go: the bindings keep none of them alive for another.
    """

    parser: Any
    network: Any
    builder: Any


def parse(toolkit: Toolkit, graph: Path) -> Parsed:
    """Ask a parser that is thrown away, then parse.

    Raises:
        Refused: the graph holds an operator, type or shape that this version does not know.
        DeviceError: there is no GPU, and this version parses only with one.
    """
    builder = toolkit.builder()
    _ask(toolkit, builder, graph)
    network = toolkit.network(builder)
    parser = toolkit.parser(network)
    with toolkit.listening() as heard:
        taken = parser.parse_from_file(str(graph))
    if not taken or not network.num_layers:
        raise Refused("parser", _why(parser, heard))
    toolkit.allow_decomposition(network)
    return Parsed(parser, network, builder)


def _ask(toolkit: Toolkit, builder: Any, graph: Path) -> None:
    network = toolkit.network(builder)  # kept: the parser holds a bare pointer to it
    parser = toolkit.parser(network)
    with toolkit.listening() as heard:
        taken = toolkit.asks(parser, graph)
    if not taken:
        raise Refused("parser", _why(parser, heard))


def _why(parser: Any, heard: list[Message]) -> str:
    if not parser.num_errors:
        return reason(heard) if heard else "the file is no graph that the parser can read"
    error = parser.get_error(0)
    if not hasattr(error, "node_operator"):  # before TensorRT 10
        return f"node {error.node()}: {error.desc()}"
    return f"operator `{error.node_operator()}` at `{error.node_name()}`: {error.desc()}"
