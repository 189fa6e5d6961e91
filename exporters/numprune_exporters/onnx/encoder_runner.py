"""Runner of an encoder: checks its inputs and runs only columns with real tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnxruntime import OrtValue

from numprune_export.core.errors import InputError
from numprune_export.export.runner import Logits, Tokens
from numprune_exporters.onnx.session import Session, fact, logit_count, number
from numprune_exporters.runners.inputs import check_vocabulary, integers, lengths_of


class OnnxEncoderRunner:
    """An EncoderRunner over an ONNX Runtime session; `__exit__` releases the session."""

    def __init__(self, session: Session) -> None:
        self._session: Session | None = session
        self._inputs = tuple(port.name for port in session.get_inputs())
        self._classes = logit_count(session)
        self._per_text = fact(session, "task") == "sequence"
        self._max_positions = number(session, "max_positions")
        self._vocabulary = number(session, "vocabulary")
        self._token_types = number(session, "token_types")

    def __enter__(self) -> OnnxEncoderRunner:
        return self

    def __exit__(self, *exc: object) -> None:
        self._session = None

    def forward(
        self, tokens: Tokens, lengths: Tokens | None = None, types: Tokens | None = None
    ) -> Logits:
        """See EncoderRunner.forward. A model without token types ignores `types`.

        Raises:
            InputError: a wrong shape, length, token or token type, or more tokens than positions.
        """
        tokens = integers("tokens", tokens, dimensions=2)
        self._check_length(tokens.shape[1])
        lengths = lengths_of(tokens, lengths)
        batch, width = tokens.shape
        longest = int(lengths.max())
        real = np.arange(longest, dtype=np.int64)[None] < lengths[:, None]
        # A padded position may hold any number; 0 is a valid index of the embedding.
        tokens = np.where(real, tokens[:, :longest], 0)
        check_vocabulary(tokens, self._vocabulary)
        types = self._checked_types(types, (batch, width), real)
        logits = self._run(
            {"input_ids": tokens, "attention_mask": real.astype(np.int64), "token_type_ids": types}
        )
        if self._per_text or longest == width:
            return logits
        return np.pad(logits, ((0, 0), (0, width - longest), (0, 0)))

    def _run(self, feeds: dict[str, NDArray[np.int64]]) -> Logits:
        if self._session is None:
            raise InputError("this runner is closed", hint="open the artifact again")
        shape = feeds["input_ids"].shape
        shape = shape[:1] if self._per_text else shape
        logits = np.empty((*shape, self._classes), np.float32)
        binding = self._session.io_binding()
        for name in self._inputs:
            binding.bind_cpu_input(name, feeds[name])
        binding.bind_ortvalue_output("logits", OrtValue.ortvalue_from_numpy(logits))
        self._session.run_with_iobinding(binding)
        return logits

    def _check_length(self, length: int) -> None:
        if length > self._max_positions:
            raise InputError(
                f"a text of `{length}` tokens exceeds the model's `{self._max_positions}` positions",
                hint="split the text into shorter texts",
            )

    def _checked_types(
        self, types: Tokens | None, shape: tuple[int, int], real: NDArray[np.bool_]
    ) -> Tokens:
        if types is None or not self._token_types:
            return np.zeros(real.shape, np.int64)
        types = integers("token types", types, dimensions=2)
        if types.shape != shape:
            raise InputError(
                f"token types of shape `{types.shape}` do not fit tokens of shape `{shape}`",
                hint="give one type for each token",
            )
        types = np.where(real, types[:, : real.shape[1]], 0)
        wrong = types[(types < 0) | (types >= self._token_types)]
        if wrong.size:
            raise InputError(
                f"token type `{wrong[0]}` is outside the model's `{self._token_types}` types",
                hint="tokenize with this model's own tokenizer",
            )
        return types
