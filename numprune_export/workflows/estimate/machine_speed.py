"""Speed of this machine's CPU at each kind of work, sampled with the model's shapes.

Samples are capped: no side above `SIDE`, no matrix product above `OPERATIONS`. They run with the
recipe's matmul precision and PyTorch's threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers.activations import ACT2FN

from numprune_export.calibration.statistics import StatisticsAccumulator
from numprune_export.core import allocator
from numprune_export.core.disk_space import temporary_folder
from numprune_export.core.optional import require
from numprune_export.workflows.estimate import linear_algebra
from numprune_export.workflows.estimate.clock import Clock
from numprune_export.workflows.estimate.forward_passes import SUMMED
from numprune_export.workflows.estimate.shapes import Shapes
from numprune_export.workflows.estimate.texts import Texts
from numprune_export.workflows.estimate.work import Kind

SIDE = 2048
SIDE64 = 2048
EIGEN_SIDE = 320
COPIED_SIDE = 2304
"""A matrix above 32 MiB, which the allocator maps anew for every copy: pages cost most of its time."""
OPERATIONS = 8e9
BYTES = 1 << 24
CALLS = 500
FEW = 32
"""Rows of a product that is bound by reading its weights."""
COLD = 1 << 27
"""Bytes of weights, more than CPU caches hold: a decode step finds none of them cached."""


def measure(shapes: Shapes, texts: Texts, clock: Clock, *, gguf: bool) -> dict[Kind, float]:
    """Seconds per unit of each kind of work; takes about two seconds on one core.

    Call it in the recipe's `matmul_precision(...)` context.

    Args:
        gguf: Whether the model is a GGUF file, whose weights are de-quantised.
    """
    return {
        "stages": _per_unit(clock, allocator.release, 1.0),
        **_dense(shapes, texts, clock),
        **_attention(shapes, texts, clock),
        **_elementwise(shapes, texts, clock),
        **_doubles(shapes, clock),
        **_bytes(clock),
        **(_dequantised(clock) if gguf else {}),
    }


def _per_unit(clock: Clock, work: Callable[[], object], units: float, repeats: int = 3) -> float:
    """Median of `repeats` calls; a first call, which allocates and compiles, is not counted."""
    taken = []
    for _ in range(repeats + 1):
        start = clock.now()
        work()
        taken.append(clock.now() - start)
    return sorted(taken[1:])[repeats // 2] / units


def _rows(shapes: Shapes, texts: Texts) -> int:
    return max(1, min(SIDE, round(texts.batch_tokens)))


def _dtype(shapes: Shapes) -> torch.dtype:
    """Of weights and activations; 2 bytes are taken for bfloat16."""
    return torch.bfloat16 if shapes.itemsize == 2 else torch.float32


def _dense(shapes: Shapes, texts: Texts, clock: Clock) -> dict[Kind, float]:
    """Matrix products of one block, and the widest Gram matrix."""
    block = max(shapes.blocks, key=lambda sites: sum(site.weights for site in sites))
    sides = {(site.inputs, site.produced) for site in block} | {
        (site.width, site.inputs) for site in block
    }
    pairs = [(min(SIDE, inputs), min(SIDE, outputs)) for inputs, outputs in sorted(sides)]
    weights = sum(inputs * outputs for inputs, outputs in pairs)
    rows = max(1, min(_rows(shapes, texts), round(OPERATIONS / (2 * weights))))
    layers = [(torch.randn(rows, i), torch.randn(o, i)) for i, o in pairs]
    own = [(given.to(_dtype(shapes)), weight.to(_dtype(shapes))) for given, weight in layers]

    def products() -> None:
        for given, weight in layers:
            functional.linear(given, weight)

    def forward() -> None:
        for given, weight in own:
            functional.linear(given, weight)

    def both() -> None:
        for given, weight in own:
            leaf = given.requires_grad_()
            output = functional.linear(leaf, weight)
            torch.autograd.grad(output, leaf, output)

    few = [(torch.randn(FEW, weight.shape[1]).to(weight.dtype), weight) for _, weight in own]
    copies = -(-COLD // (weights * shapes.itemsize))
    cold = [(given, weight.clone()) for _ in range(copies) for given, weight in few]

    def steps() -> None:
        for given, weight in cold:
            functional.linear(given, weight)

    width = min(SIDE, max(site.width for site in shapes.sites))
    rows_of_gram = max(1, min(_rows(shapes, texts), round(OPERATIONS / (2 * width**2))))
    accumulator = StatisticsAccumulator(width, torch.device("cpu"))
    given = torch.randn(rows_of_gram, width).to(_dtype(shapes))
    operations, many = 2.0 * rows * weights, 2 * SUMMED * rows_of_gram * width**2
    with torch.no_grad():
        few_rows = _per_unit(clock, steps, copies * weights)
        once = _per_unit(clock, forward, operations)
    return {
        "layers": once,
        "layers_back": max(once, _per_unit(clock, both, operations) - once),
        "products": _per_unit(clock, products, operations),
        "weights": max(0.0, few_rows - 2.0 * FEW * once),
        "grams": _per_unit(clock, lambda: accumulator.add(given), many),
    }


def _attention(shapes: Shapes, texts: Texts, clock: Clock) -> dict[Kind, float]:
    """Attention over some sequences; with a padding mask for an encoder."""
    length = max(1, min(SIDE, round((texts.pairs / texts.sequences) ** 0.5)))
    widest = max([site.width for site in shapes.sites if site.kind == "attention"], default=0)
    heads = max(1, widest // shapes.head_dim)
    each = 4.0 * length**2 * shapes.head_dim
    count = max(1, min(texts.batch, round(OPERATIONS / 8 / (each * heads))))
    heads = max(1, min(heads, round(OPERATIONS / 8 / each)))
    query, key, value = (
        torch.randn(count, heads, length, shapes.head_dim).to(_dtype(shapes)).requires_grad_()
        for _ in range(3)
    )
    mask = None if shapes.causal else torch.ones(count, 1, length, length, dtype=torch.bool)

    def attend() -> Tensor:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=shapes.causal
        )

    operations = count * heads * each
    with torch.no_grad():
        forward = _per_unit(clock, attend, operations)
    both = _per_unit(clock, lambda: torch.autograd.grad(attend().sum(), query), operations)
    return {"attention": forward, "attention_back": max(both - forward, forward)}


def _elementwise(shapes: Shapes, texts: Texts, clock: Clock) -> dict[Kind, float]:
    rows = _rows(shapes, texts)
    dtype, small = _dtype(shapes), torch.randn(1, 8)
    hidden = torch.randn(rows, min(SIDE, shapes.hidden)).to(dtype)
    width = max([site.width for site in shapes.sites if site.kind == "mlp"], default=shapes.hidden)
    wide, activation = torch.randn(rows, min(SIDE, width)).to(dtype), ACT2FN[shapes.activation]

    def calls() -> None:
        for _ in range(CALLS):
            small + 1

    with torch.no_grad():
        return {
            "activation": _per_unit(clock, lambda: activation(wide), wide.numel()),
            "elementwise": _per_unit(clock, lambda: hidden * hidden, 3.0 * hidden.nbytes),
            "calls": CALL_FACTOR * _per_unit(clock, calls, CALLS),
        }


CALL_FACTOR = 3.0
"""Cost of an operator in a module of transformers, relative to a bare operator."""


def _doubles(shapes: Shapes, clock: Clock) -> dict[Kind, float]:
    """fp64 linear algebra of the widest site."""
    widest = max(shapes.sites, key=lambda site: site.width)
    n, out = min(SIDE64, widest.width), min(EIGEN_SIDE, widest.inputs)
    rows = torch.randn(n, n, dtype=torch.float64)
    matrix = rows @ rows.T + n * torch.eye(n).double()
    wide = torch.randn(side := min(COPIED_SIDE, widest.width), side, dtype=torch.float64)
    kept, right = torch.arange(side), rows[:, : n // 4]
    metric = matrix[:out, :out].clone()
    return {
        "products64": _per_unit(clock, lambda: rows @ rows[:, :out], 2.0 * n * n * out),
        "cholesky": _per_unit(
            clock,
            lambda: torch.cholesky_solve(right, torch.linalg.cholesky(matrix)),
            linear_algebra.cholesky_operations(n, n // 4),
            1,
        ),
        "eigen": _per_unit(clock, lambda: torch.linalg.eigh(metric), float(out) ** 3),
        "memory64": _per_unit(clock, lambda: wide[kept][:, kept], 4 * 8.0 * side**2),
    }


def _bytes(clock: Clock) -> dict[Kind, float]:
    """Writing and reading temporary files, and hashing."""
    content = {"gram": torch.zeros(BYTES // 4)}
    digest = bytes(BYTES // 4)
    with temporary_folder() as folder:
        path = folder / "sample"

        def both() -> None:
            save_file(content, path)
            float(load_file(path)["gram"].sum())

        files = _per_unit(clock, both, 2.0 * BYTES)
    return {
        "files": files,
        "transfers": files / 2,
        "hashes": _per_unit(clock, lambda: hashlib.sha256(digest).digest(), len(digest)),
    }


def _dequantised(clock: Clock) -> dict[Kind, float]:
    """De-quantisation of GGUF blocks of type Q4_1."""
    gguf = require("gguf", extra="gguf")
    size, packed = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q4_1]
    blocks = np.zeros((BYTES // 4 // size, packed), dtype=np.uint8)

    def dequantise() -> None:
        gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q4_1)

    return {"dequantise": _per_unit(clock, dequantise, blocks.shape[0] * size)}
