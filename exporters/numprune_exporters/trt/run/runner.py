"""Runner of an engine: a CheckedRunner over the slot graph that reports device memory."""

from __future__ import annotations

from collections.abc import Mapping

from numprune_exporters.runners.decoder import CheckedRunner
from numprune_exporters.trt.profiles import Profiles
from numprune_exporters.trt.run.device import EngineDevice
from numprune_exporters.trt.run.steps import EngineSteps


class EngineRunner(CheckedRunner):
    """A DecoderRunner that implements AccountsMemory; `__exit__` frees all device memory."""

    def __init__(
        self,
        device: EngineDevice,
        profiles: Profiles,
        *,
        vocabulary: int,
        capacity: int,
        weights_bytes: int,
    ) -> None:
        steps = EngineSteps(device, profiles, slots=device.slots)
        super().__init__(steps, vocabulary=vocabulary, capacity=capacity)
        self._device = device
        self._weights_bytes = weights_bytes

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._device.close()

    @property
    def decode_path(self) -> str:
        """How decode steps run: `cuda graph`, or `enqueue` and the reason."""
        return self._device.decode_path

    def device_memory(self) -> Mapping[str, int]:
        """See AccountsMemory.device_memory."""
        return {
            "weights": self._weights_bytes,
            "activations": self._device.activation_bytes,
            "kv_cache": self._device.cache_bytes,
        }
