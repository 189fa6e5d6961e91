"""Open an `onnx-cuda` artifact. Needs numpy and onnxruntime-gpu; no torch, pydantic or onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from numprune_export.export.artifact import Artifact
from numprune_exporters.graphs.file import WEIGHTS
from numprune_exporters.onnx.open import require_runtime, steps, vocabulary
from numprune_exporters.onnx_cuda.session import PACKAGE, open_cuda_session
from numprune_exporters.runners.decoder import CheckedRunner, require_capacity

if TYPE_CHECKING:
    from numprune_exporters.onnx.gqa_steps import GqaSteps
    from numprune_exporters.onnx.standard_steps import StandardSteps

OLDEST_CUDA_RUNTIME = "1.24"
"""The first version that reports the device of each operator."""


class OnnxCudaRunner(CheckedRunner):
    """A DecoderRunner that implements AccountsMemory for weights and KV cache."""

    def __init__(
        self,
        driver: GqaSteps | StandardSteps,
        *,
        vocabulary: int,
        capacity: int,
        weights_bytes: int,
    ) -> None:
        super().__init__(driver, vocabulary=vocabulary, capacity=capacity)
        self._driver: GqaSteps | StandardSteps | None = driver
        self._weights_bytes = weights_bytes

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._driver = None

    def device_memory(self) -> Mapping[str, int]:
        """See AccountsMemory.device_memory. ONNX Runtime does not report activations."""
        cache_bytes = 0 if self._driver is None else self._driver.cache_bytes
        return {"weights": self._weights_bytes, "kv_cache": cache_bytes}


def open_artifact(
    artifact: Artifact, *, threads: int, capacity: int | None = None
) -> OnnxCudaRunner:
    """See Exporter.open.

    Raises:
        InputError: a file is missing or altered, or the capacity is missing or too large.
        MissingExtraError: onnxruntime-gpu is not installed, or too old for this graph.
        DeviceError: there is no GPU, or the session does not run on it.
    """
    longest = require_capacity(artifact, capacity)
    require_runtime(
        str(artifact.facts.get("needs_onnxruntime", OLDEST_CUDA_RUNTIME)), package=PACKAGE
    )
    session = open_cuda_session(artifact, threads=threads)
    return OnnxCudaRunner(
        steps(session, capacity=longest, device="cuda"),
        vocabulary=vocabulary(session),
        capacity=longest,
        weights_bytes=(artifact.folder / WEIGHTS).stat().st_size,
    )
