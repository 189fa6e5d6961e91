"""Convert a dictionary to config.pbtxt through Triton's protobuf message, which checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numprune_export.core.optional import require


def to_pbtxt(content: Mapping[str, Any]) -> str:
    """The text form of an `inference.ModelConfig`.

    Raises:
        MissingExtraError: tritonclient is not installed.
    """
    schema = require("tritonclient.grpc.model_config_pb2", extra="triton")
    from google.protobuf import json_format, text_format

    message = json_format.ParseDict(dict(content), schema.ModelConfig())
    text: str = text_format.MessageToString(message)
    return text
