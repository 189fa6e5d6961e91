"""Send a prompt to the server and print the streamed text. Needs `tritonclient[grpc]`."""

from __future__ import annotations

import argparse
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as grpc

NUMBERS = {
    "max_tokens": ("INT32", np.int32, int),
    "temperature": ("FP32", np.float32, float),
    "top_k": ("INT32", np.int32, int),
    "top_p": ("FP32", np.float32, float),
    "seed": ("UINT64", np.uint64, int),
}


def main() -> None:
    arguments = read_arguments()
    inputs = [texts("text_input", [arguments.prompt])]
    inputs.append(tensor("stream", "BOOL", np.array([[True]])))
    if arguments.stop:
        inputs.append(texts("stop_words", arguments.stop))
    for name, (type_name, kind, _) in NUMBERS.items():
        value = getattr(arguments, name)
        if value is not None:
            inputs.append(tensor(name, type_name, np.array([[value]], kind)))

    responses: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(arguments.url) as client:
        client.start_stream(lambda result, error: responses.put((result, error)))
        client.async_stream_infer(arguments.model, inputs)
        reason = ""
        while not reason:
            result, error = responses.get()
            if error is not None:
                sys.exit(f"error: {error.message()}")
            sys.stdout.write(result.as_numpy("text_output")[0, 0].decode())
            sys.stdout.flush()
            reason = result.as_numpy("finish_reason")[0, 0].decode()
    sys.stdout.write("\n")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--model", default="@NAME@")
    parser.add_argument("--url", default="localhost:8001", help="the server's gRPC address")
    parser.add_argument("--stop", action="append", help="end before this text; may be repeated")
    for name, (_, _, read) in NUMBERS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=read)
    return parser.parse_args()


def texts(name: str, values: list[str]) -> grpc.InferInput:
    return tensor(name, "BYTES", np.array([[text.encode() for text in values]], np.object_))


def tensor(name: str, type_name: str, array: np.ndarray[Any, Any]) -> grpc.InferInput:
    """A tensor of one request; the first dimension is the batch, always 1."""
    tensor_input = grpc.InferInput(name, list(array.shape), type_name)
    tensor_input.set_data_from_numpy(array)
    return tensor_input


if __name__ == "__main__":
    main()
