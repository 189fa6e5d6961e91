"""Running the GroupQueryAttention graph: the KV cache is one set of buffers, read and written."""

from __future__ import annotations

import numpy as np
from onnxruntime import OrtValue

from numprune_export.artifact import Logits, Tokens
from numprune_exporters.onnx_session import Session
from numprune_exporters.onnx_types import NUMPY_TYPES


class GqaSteps:
    """Buffers are made when the batch changes; a decode step writes its inputs where they are bound."""

    def __init__(self, session: Session, *, capacity: int) -> None:
        self._session = session
        self._capacity = capacity
        self._vocabulary = int(session.get_outputs()[0].shape[2])
        self._batch = 0

    def prefill(self, tokens: Tokens, lengths: Tokens, positions: Tokens) -> Logits:
        """Logits (batch, k, vocabulary) of new right-padded sequences."""
        batch = tokens.shape[0]
        if batch != self._batch:
            self._allocate(batch)
        logits = np.empty((*positions.shape, self._vocabulary), np.float32)
        self._write_lengths(lengths)
        self._session.run_with_iobinding(self._binding(tokens, positions, logits))
        return logits

    def decode(self, tokens: Tokens, lengths: Tokens) -> Logits:
        """Logits (batch, 1, vocabulary) after one more token; `lengths` include it."""
        self._token[:, 0] = tokens
        self._write_lengths(lengths)
        self._session.run_with_iobinding(self._step)
        return self._logits.copy()

    def _allocate(self, batch: int) -> None:
        # The old buffers go first: two sets at once could double the peak memory.
        self._caches: dict[str, OrtValue] = {}
        self._caches = {
            port.name: OrtValue.ortvalue_from_shape_and_type(
                (batch, port.shape[1], self._capacity, port.shape[3]), NUMPY_TYPES[port.type], "cpu"
            )
            for port in self._session.get_inputs()
            if port.name.startswith("past_key_values.")
        }
        self._batch = batch
        self._seqlens = np.zeros(batch, np.int32)
        self._total = np.zeros((), np.int32)
        self._token = np.zeros((batch, 1), np.int64)
        self._logits = np.empty((batch, 1, self._vocabulary), np.float32)
        self._step = self._binding(self._token, np.zeros((batch, 1), np.int64), self._logits)

    def _write_lengths(self, lengths: Tokens) -> None:
        self._seqlens[:] = lengths - 1
        self._total[()] = lengths.max()

    def _binding(self, tokens: Tokens, positions: Tokens, logits: Logits) -> Session:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", tokens)
        binding.bind_cpu_input("seqlens_k", self._seqlens)
        binding.bind_cpu_input("total_sequence_length", self._total)
        binding.bind_cpu_input("logits_positions", positions)
        binding.bind_ortvalue_output("logits", OrtValue.ortvalue_from_numpy(logits))
        for name, cache in self._caches.items():
            binding.bind_ortvalue_input(name, cache)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), cache)
        return binding
