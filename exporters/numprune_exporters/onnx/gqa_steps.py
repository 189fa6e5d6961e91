"""Run the GroupQueryAttention graph: one set of KV-cache buffers, read and written in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnxruntime import OrtValue

from numprune_export.export.runner import Device, Logits, Tokens
from numprune_exporters.onnx.dtypes import ELEMENT_TYPES
from numprune_exporters.onnx.session import Session, logit_count, ports_of


class GqaSteps:
    """Buffers are allocated when the batch changes; a decode step writes into its bound inputs."""

    def __init__(self, session: Session, *, capacity: int, device: Device = "cpu") -> None:
        self._session = session
        self._capacity = capacity
        self._device = device
        self._vocabulary = logit_count(session)
        self._ports = ports_of(session, "past_key_values.")
        self._element = ELEMENT_TYPES[self._ports[0].type]
        self._batch = 0
        self._caches: dict[str, OrtValue] = {}
        self._step: Session = None
        self._first: OrtValue | None = None
        self.cache_bytes = 0

    def prefill(self, tokens: Tokens, lengths: Tokens, positions: Tokens) -> Logits:
        """Logits (batch, k, vocabulary) of new right-padded sequences."""
        batch = tokens.shape[0]
        if batch != self._batch:
            self._allocate(batch)
        # The kernels take no prompt wider than its longest row. Logits beyond a row are undefined.
        longest = int(lengths.max())
        tokens = np.ascontiguousarray(tokens[:, :longest])
        read_positions = np.minimum(positions, longest - 1)
        logits = np.empty((*positions.shape, self._vocabulary), np.float32)
        self._write_lengths(lengths)
        # On the CPU an OrtValue is a view of numpy's memory, and older bindings hold neither of them.
        inputs = self._placed(tokens), self._placed(read_positions)
        self._session.run_with_iobinding(self._binding(*inputs, logits))
        return logits

    def decode(self, tokens: Tokens, lengths: Tokens) -> Logits:
        """Logits (batch, 1, vocabulary) after one more token; `lengths` include it."""
        self._token.update_inplace(np.ascontiguousarray(tokens[:, None]))
        self._write_lengths(lengths)
        self._session.run_with_iobinding(self._step)
        return self._logits.copy()

    def _allocate(self, batch: int) -> None:
        # Free the old buffers first: two sets at once would double the peak memory.
        self._batch, self._step, self._caches = 0, None, {}
        self._caches = {
            port.name: self._cache((batch, port.shape[1], self._capacity, port.shape[3]), port.type)
            for port in self._ports
        }
        self.cache_bytes = sum(cache.tensor_size_in_bytes() for cache in self._caches.values())
        self._seqlens = self._placed(np.zeros(batch, np.int32))
        self._total = np.zeros((), np.int32)
        self._token = self._placed(np.zeros((batch, 1), np.int64))
        self._logits = np.empty((batch, 1, self._vocabulary), np.float32)
        self._first = self._placed(np.zeros((batch, 1), np.int64))
        self._step = self._binding(self._token, self._first, self._logits)
        self._batch = batch

    def _cache(self, shape: tuple[int, ...], kind: str) -> OrtValue:
        if self._device == "cpu":
            return OrtValue.ortvalue_from_shape_and_type(shape, ELEMENT_TYPES[kind], "cpu", 0)
        # Zeroed: some GPU kernels multiply the slots behind a row by zero, and 0 · NaN is NaN.
        # float16 stands for bfloat16, which numpy lacks: only the size and the address matter.
        return self._placed(np.zeros(shape, np.float32 if kind == "tensor(float)" else np.float16))

    def _placed(self, array: NDArray[np.generic]) -> OrtValue:
        return OrtValue.ortvalue_from_numpy(array, self._device, 0)

    def _write_lengths(self, lengths: Tokens) -> None:
        self._seqlens.update_inplace((lengths - 1).astype(np.int32))
        self._total[()] = lengths.max()

    def _binding(self, tokens: OrtValue, positions: OrtValue, logits: Logits) -> Session:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("input_ids", tokens)
        binding.bind_ortvalue_input("seqlens_k", self._seqlens)
        # The kernels read this input on the host, on every device.
        binding.bind_cpu_input("total_sequence_length", self._total)
        binding.bind_ortvalue_input("logits_positions", positions)
        binding.bind_ortvalue_output("logits", OrtValue.ortvalue_from_numpy(logits))
        for name, cache in self._caches.items():
            where = (self._device, 0, self._element, cache.shape(), cache.data_ptr())
            binding.bind_input(name, *where)
            binding.bind_output(name.replace("past_key_values", "present"), *where)
        return binding
