"""Parse untrusted JSON; every defect is a ValueError."""

from __future__ import annotations

import json
import re
from typing import Any

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(text: str, *, unique: bool = False) -> Any:
    """Parse a JSON text.

    Args:
        unique: Reject objects with duplicate keys, which parsers resolve differently.

    Raises:
        ValueError: not JSON, nested too deeply, an integer with too many digits, or an unpaired
            surrogate, which UTF-8 cannot encode and tokenizers reject.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once if unique else None)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"it holds an unpaired surrogate, `\\u{ord(half):04x}`") from None
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key `{twice}` twice")
    return content
