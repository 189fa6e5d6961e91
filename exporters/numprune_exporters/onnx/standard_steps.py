"""Run the standard graph: the present outputs of a call are the past of the next call."""

from __future__ import annotations

import numpy as np
from onnxruntime import OrtValue

from numprune_export.export.runner import Device, Logits, Tokens
from numprune_exporters.onnx.dtypes import ELEMENT_TYPES
from numprune_exporters.onnx.session import Session


class StandardSteps:
    """ONNX Runtime owns the cache tensors; only their names change from present to past."""

    def __init__(self, session: Session, *, device: Device = "cpu") -> None:
        self._session = session
        self._device = device
        self._past: dict[str, OrtValue] = {}
        self._mask = np.zeros((0, 0), np.int64)

    def prefill(self, tokens: Tokens, lengths: Tokens, positions: Tokens) -> Logits:
        """Logits (batch, k, vocabulary) of new right-padded sequences."""
        batch, length = tokens.shape
        places = np.arange(length, dtype=np.int64)[None]
        self._mask = (places < lengths[:, None]).astype(np.int64)
        self._past = {
            port.name: OrtValue.ortvalue_from_shape_and_type(
                (batch, port.shape[1], 0, port.shape[3]), ELEMENT_TYPES[port.type]
            )
            for port in self._session.get_inputs()
            if port.name.startswith("past_key_values.")
        }
        return self._run(tokens, np.repeat(places, batch, axis=0), positions)

    def decode(self, tokens: Tokens, lengths: Tokens) -> Logits:
        """Logits (batch, 1, vocabulary) after one more token; `lengths` include it."""
        self._mask = np.pad(self._mask, ((0, 0), (0, 1)), constant_values=1)
        first = np.zeros((len(tokens), 1), np.int64)
        return self._run(tokens[:, None], lengths[:, None] - 1, first)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the KV cache, which grows with every step."""
        return sum(cache.tensor_size_in_bytes() for cache in self._past.values())

    def _run(self, tokens: Tokens, places: Tokens, positions: Tokens) -> Logits:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(tokens))
        binding.bind_cpu_input("attention_mask", self._mask)
        binding.bind_cpu_input("position_ids", np.ascontiguousarray(places))
        binding.bind_cpu_input("logits_positions", positions)
        for name, cache in self._past.items():
            binding.bind_ortvalue_input(name, cache)
        ports = [port.name for port in self._session.get_outputs()]
        for name in ports:
            binding.bind_output(name, "cpu" if name == "logits" else self._device)
        self._session.run_with_iobinding(binding)
        outputs = dict(zip(ports, binding.get_outputs(), strict=True))
        self._past = {
            name: outputs[name.replace("past_key_values", "present")] for name in self._past
        }
        logits: Logits = outputs["logits"].numpy()
        return logits
