"""The model's tokenizer, loaded without transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from numprune_export.core.errors import InputError

TOKENIZER = "tokenizer.json"
CONFIGS = ("generation_config.json", "config.json")


class TextTokenizer:
    """Encodes and decodes text; knows the tokens that end a text."""

    def __init__(self, folder: Path) -> None:
        path = folder / TOKENIZER
        if not path.is_file():
            raise InputError(f"`{path}` is missing", hint="package the run again")
        self._tokenizer = Tokenizer.from_file(str(path))
        # A tokenizer file may enable both from training: a prompt is neither truncated nor padded.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.end_tokens = _end_tokens(folder)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, with the model's special start tokens."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens without special tokens; invalid UTF-8 becomes U+FFFD."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


def _end_tokens(folder: Path) -> frozenset[int]:
    """`eos_token_id` (one or several) of the generation config, else of the config."""
    for name in CONFIGS:
        path = folder / name
        ids = json.loads(path.read_text())["eos_token_id"] if _has_end(path) else None
        if ids is not None:
            return frozenset(ids if isinstance(ids, list) else [ids])
    return frozenset()


def _has_end(path: Path) -> bool:
    return path.is_file() and "eos_token_id" in json.loads(path.read_text())
