"""What `gpu_speed.py` times: a random decoder, open in PyTorch or in the runtime of a target."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_decoder import SHAPES, random_decoder
from transformers import PreTrainedModel

from numprune_export.core.errors import DeviceError
from numprune_export.core.metric import Metric, Metrics
from numprune_export.export.runner import AccountsMemory, DecoderRunner
from numprune_export.measure.gpu import read as gpu
from numprune_export.measure.reference.compiled import CompiledTorchRunner
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.models.families import DECODERS

DECODE_STEPS = 16
PYTORCH = ("torch", "torch-compiled")


def require_memory(options: argparse.Namespace) -> None:
    """Refuse what the GPU cannot hold, before anything is made.

    Raises:
        DeviceError: less memory is free than the dense and the widest pruned model take, and a fifth.
    """
    state = gpu.read() if options.device == "cuda" else None
    if state is None or state.memory_free_bytes is None:
        return
    size = getattr(torch, options.dtype).itemsize
    needed = 1.2 * size * SHAPES[options.shape].parameters * (1 + max(options.keep))
    if state.memory_free_bytes < needed:
        free = state.memory_free_bytes
        raise DeviceError(
            f"{free / 2**30:.1f} GiB of GPU memory are free, {needed / 2**30:.1f} GiB are needed",
            hint="use a larger GPU, or `--shape tiny`",
        )


def open_row(
    options: argparse.Namespace, keep: float, stack: ExitStack
) -> tuple[DecoderRunner, Metrics]:
    """A model open in the row's runtime, and what it holds on the device, by `<part>_bytes`.

    Raises:
        NumpruneError: one of its kinds; see `Exporter.export` and `Exporter.open`.
    """
    if options.row not in PYTORCH:
        runner = open_target(options, keep, stack)
        return runner, memory(options, runner, None, 0)
    held = held_bytes(options.device)
    model = make(options, keep, options.device)
    threads = None if options.device == "cuda" else 1
    if options.row == "torch":
        opened: DecoderRunner = stack.enter_context(TorchRunner(model, threads=threads))
    else:
        compiled = CompiledTorchRunner(model, capacity=capacity(options), threads=threads)
        opened = stack.enter_context(compiled)
    return opened, memory(options, opened, model, held)


def capacity(options: argparse.Namespace) -> int:
    """The longest sequence that is run."""
    longest: int = max(options.tokens)
    return longest + DECODE_STEPS


def under(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers of this row hold under."""
    return {
        "shape": options.shape,
        "dtype": options.dtype,
        "device": options.device,
        "torch": torch.__version__,
    }


def make(options: argparse.Namespace, keep: float, device: str) -> PreTrainedModel:
    """The row's model at this width, on `device`; on `meta` it is its shapes alone."""
    return random_decoder(
        SHAPES[options.shape],
        keep,
        dtype=getattr(torch, options.dtype),
        device=device,
        positions=max(2048, capacity(options)),
    )


def open_target(options: argparse.Namespace, keep: float, stack: ExitStack) -> DecoderRunner:
    """Export from the CPU, and open; the files live as long as the runner, the model does not."""
    # Here and not above: PyTorch's own rows need no pydantic, which not every GPU host has.
    from numprune_export.export import targets

    exporter = targets.find(options.row)
    settings = targets.settings_for(exporter, target_settings(options))
    targets.require_ready(exporter)
    folder = Path(tempfile.mkdtemp(prefix="gpu-speed-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    decoder = DECODERS["mistral"].decoder(make(options, keep, "cpu"))
    artifact = exporter.export(decoder, folder, settings)
    runner = exporter.open(artifact, threads=1, capacity=capacity(options))
    assert isinstance(runner, DecoderRunner), artifact.network
    return stack.enter_context(runner)


def target_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The row's precision, and profiles around what is measured."""
    if not options.row.startswith("trt"):
        return {"dtype": options.dtype}
    batch = {"min": 1, "opt": 1, "max": max(options.batch)}
    length = {"min": 1, "opt": min(options.tokens), "max": max(options.tokens)}
    slots = {"min": 1, "opt": capacity(options), "max": capacity(options)}
    return {
        "dtype": options.dtype,
        "keep_graph": False,
        "prefill": {"batch": batch, "length": length, "positions": {"max": 1}},
        "decode": {"batch": batch, "capacity": slots},
    }


def held_bytes(device: str) -> int:
    if device != "cuda" or not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def memory(
    options: argparse.Namespace, runner: DecoderRunner, model: PreTrainedModel | None, held: int
) -> Metrics:
    """What a variant holds on the device at one sequence of the first length.

    A target says it by part. For PyTorch: the bytes of its weights, and the most that its allocator
    gave out while the sequence ran, above the `held` bytes of before.
    """
    length = options.tokens[0]
    runner.prefill(np.zeros((1, length), np.int64))
    runner.decode(np.zeros(1, np.int64))
    sizes: dict[str, int] = {}
    if isinstance(runner, AccountsMemory):
        parts = dict(runner.device_memory())
        sizes = {f"{key}_bytes": size for key, size in parts.items()}
        sizes["peak_bytes"] = sum(parts.values())
    elif model is not None:
        sizes["weights_bytes"] = sum(parameter.nbytes for parameter in model.parameters())
        if options.device == "cuda":
            sizes["peak_bytes"] = torch.cuda.max_memory_allocated() - held
    conditions = {**under(options), "batch": 1, "tokens": length}
    return {key: Metric(amount, "bytes", 1, conditions=conditions) for key, amount in sizes.items()}
