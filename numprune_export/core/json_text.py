"""JSON that others wrote: whatever is wrong with it is a ValueError."""

from __future__ import annotations

import json
import re
from typing import Any

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(text: str) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: no JSON, nested too deeply, an integer of too many digits, or half of a surrogate
            pair, which no UTF-8 text can hold and no tokenizer takes.
    """
    try:
        content = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"it holds half of a surrogate pair, `\\u{ord(half):04x}`") from None
    return content
