"""Loading of the tokenizer of a Hugging Face folder, without running code from it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from numprune_export.core.errors import InputError, MissingExtraError
from numprune_export.core.file_kind import stand_in_at
from numprune_export.core.foreign import first_line
from numprune_export.models.checkpoint.plain_folder import plain_folder

_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", *_SENTENCEPIECE)
_ALSO = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
_EXTRA = "numprune-export[sentencepiece]"
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\s")


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer, or None if the folder has no tokenizer files.

    Raises:
        InputError: the files cannot be read.
        MissingExtraError: they need a library that is not installed.
    """
    if not any((folder / name).is_file() for name in _FILES):
        return None
    _refuse_stand_ins(folder)
    _require_libraries(folder)
    try:
        with plain_folder(folder) as readable:
            tokenizer = AutoTokenizer.from_pretrained(
                readable, trust_remote_code=False, local_files_only=True
            )
        tokenizer("")  # a setting of a wrong type fails only when a text is encoded
        return tokenizer
    except Exception as error:  # the tokenizers library raises bare Exceptions
        reason, hint = first_line(error), _hint(str(error))
        only = _only_file(folder)
        if only is not None and "tiktoken" in reason and not _is_tiktoken(only):
            # If SentencePiece fails, transformers tries tiktoken and reports only its error.
            reason = f"`{only.name}` is damaged, or `sentencepiece` and `protobuf` are incompatible"
            hint = f"pip install '{_EXTRA}', or put a `tokenizer.json` beside it"
        raise InputError(
            f"the tokenizer of `{folder}` cannot be read: {reason}", hint=hint
        ) from error


def _refuse_stand_ins(folder: Path) -> None:
    for name in (*_FILES, *_ALSO):
        path = folder / name
        kind = stand_in_at(path) if path.is_file() else None
        if kind is not None:
            raise InputError(f"`{path}` is {kind.name}", hint=kind.hint)


def _require_libraries(folder: Path) -> None:
    """Check that the library of a SentencePiece or tiktoken file is installed.

    Raises:
        MissingExtraError: it is not; the hint names the packages.
    """
    only = _only_file(folder)
    if only is None:
        return
    tiktoken = _is_tiktoken(only)
    needed = ("tiktoken",) if tiktoken else ("sentencepiece", "google.protobuf")
    missing = [name for name in needed if not _installed(name)]
    if missing:
        names = " ".join("protobuf" if name == "google.protobuf" else name for name in missing)
        extra = "tiktoken" if tiktoken else _EXTRA
        raise MissingExtraError(
            f"the tokenizer of `{folder}` is {'a tiktoken' if tiktoken else 'a SentencePiece'} file,"
            f" `{only.name}`, and `{names}` is not installed",
            hint=f"pip install '{extra}', or put a `tokenizer.json` beside it",
        )


def _only_file(folder: Path) -> Path | None:
    """The SentencePiece or tiktoken file of a folder without tokenizer.json."""
    if (folder / "tokenizer.json").is_file():
        return None
    return next((folder / name for name in _SENTENCEPIECE if (folder / name).is_file()), None)


def _is_tiktoken(path: Path) -> bool:
    with path.open("rb") as file:
        return _TIKTOKEN.match(file.read(256)) is not None


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _hint(reason: str) -> str:
    if "untagged enum" in reason or "did not match any variant" in reason:
        return "a newer `tokenizers` may have written it: pip install -U tokenizers"
    if "remote code" in reason or "trust_remote_code" in reason or "custom code" in reason:
        return "it needs custom code, which is not run: save it as a `tokenizer.json`"
    return "give all tokenizer files of the same checkpoint"
