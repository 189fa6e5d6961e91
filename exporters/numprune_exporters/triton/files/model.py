"""Model of Triton's Python backend: converts requests and responses; runtime/ generates text."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent / "runtime"))

from numprune_export.core.errors import InputError, NumpruneError
from numprune_exporters.triton.served.generation import Piece, Row, generate
from numprune_exporters.triton.served.opening import open_served
from numprune_exporters.triton.served.request import Request, parameters, read, single

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class Client:
    """The response sender of one request."""

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()

    def cancelled(self) -> bool:
        return bool(self._sender.is_cancelled())

    def send(self, piece: Piece) -> None:
        outputs = [
            _tensor("text_output", [piece.text.encode()], np.object_),
            _tensor("token_ids", piece.tokens, np.int32),
            _tensor("finish_reason", [(piece.finish_reason or "").encode()], np.object_),
            _tensor("num_input_tokens", [piece.prompt_tokens], np.uint32),
            _tensor("num_output_tokens", [piece.generated_tokens], np.uint32),
        ]
        response = pb_utils.InferenceResponse(output_tensors=outputs)
        self._sender.send(response, flags=FINAL if piece.finish_reason else 0)

    def fail(self, error: NumpruneError) -> None:
        code = pb_utils.TritonError.INTERNAL
        if isinstance(error, InputError):
            code = pb_utils.TritonError.INVALID_ARG
        triton_error = pb_utils.TritonError(f"{error}; {error.hint}", code)
        self._sender.send(pb_utils.InferenceResponse(error=triton_error), flags=FINAL)


class TritonPythonModel:
    """Generates text; the requests of a batch run together."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self._inputs = [entry["name"] for entry in config["input"]]
        self._served = open_served(folder, config["parameters"])

    def execute(self, requests: Sequence[Any]) -> None:
        rows = []
        for request in requests:
            client = Client(request)
            try:
                row = Row(self._read(request), client, self._served)
            except NumpruneError as error:
                client.fail(error)
            else:
                rows.append(row)
        generate(self._served, rows)

    def finalize(self) -> None:
        self._served.runner.__exit__(None, None, None)

    def _read(self, request: Any) -> Request:
        values = {
            name: value
            for name, value in parameters(request.parameters()).items()
            # Parameters of the server, for example `triton_enable_empty_final_response`.
            if not name.startswith("triton_")
        }
        for name in self._inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                array = tensor.as_numpy()
                values[name] = single(name, array.shape, array.tolist())
        return read(values, max_tokens=self._served.max_tokens)


def _tensor(name: str, values: Sequence[Any], kind: type) -> Any:
    return pb_utils.Tensor(name, np.array(values, kind).reshape(1, -1))
