"""Damaged inputs, each a function of a random generator: bytes, text, trees of JSON, and their files."""

from __future__ import annotations

import copy
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

DEEP, DIGITS = "@deep@", "@digits@"
"""Stand for JSON that Python's own writer refuses: 5,000 brackets, and 5,000 digits."""
_RAW = {f'"{DEEP}"': "[" * 5000 + "]" * 5000, f'"{DIGITS}"': "1" * 5000}
ODD: tuple[Any, ...] = (
    None, True, False, "", " ", "\ud800", "\0", "x" * 300, "../../x", "/dev/zero", "~nouser/x", "é",
    0, 1, -1, 1.5, 2**31, 2**63, 2**64, 10**18, 10**400, 1e308, -0.0, math.nan, math.inf, -math.inf,
    [], {}, [[]], [None], {"": None}, "1", "null", "2026-02-30", DEEP, DIGITS,
)  # fmt: skip
"""Values that a reader may not foresee."""
TOKENS = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"{", b"[", b"]" * 50,
    b"[" * 900, b"!!int x", b"!!python/object/apply:os.getcwd []", b"&a [*a]", b"1" * 400, b"NaN",
    b"-1", b"1e999", b"2026-02-30", b"\\ud800", b"{{", b"{% for x in range(10**9) %}{% endfor %}", b"\t",
)  # fmt: skip
_CHANGES = (1, 1, 1, 2, 3)
"""Changes per input."""


def damaged_text(rng: Random, data: bytes) -> bytes:
    """As `damaged_bytes`, but what is drawn is ASCII, so that more than its decoding is reached."""
    return damaged_bytes(rng, data, ascii_only=True)


def damaged_bytes(rng: Random, data: bytes, *, ascii_only: bool = False) -> bytes:
    """One to three changes: a bit, a range, a token, a cut, or a part twice."""
    content = bytearray(data)
    for _ in range(rng.choice(_CHANGES)):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.choice((1, 4, 8, 64)))
        change = rng.choice((0, 0, 1, 1, 2, 2, 2, 3, 4, 5))
        if change == 0 and at < len(content):
            content[at] = (
                rng.randrange(32, 127) if ascii_only else content[at] ^ 1 << rng.randrange(8)
            )
        elif change == 1:
            drawn = rng.randbytes(end - at)
            content[at:end] = bytes(32 + byte % 95 for byte in drawn) if ascii_only else drawn
        elif change == 2:
            content[at:at] = rng.choice(TOKENS)
        elif change == 3:
            del content[at:end]
        elif change == 4:
            content[at:at] = content[at:end]
        else:
            del content[at:]
    return bytes(content)


def damaged_tree(rng: Random, tree: Any) -> Any:
    """One to three changes in a copy: a value replaced, removed, renamed, wrapped, or moved."""
    root = [copy.deepcopy(tree)]
    for _ in range(rng.choice(_CHANGES)):
        parent, key = rng.choice(list(_places(root)))
        _change(rng, root, parent, key)
    return root[0] if root else None


def _places(node: Any) -> Any:
    """Every container below `node` with each of its keys."""
    for key in range(len(node)) if isinstance(node, list) else list(node):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def _change(rng: Random, root: list[Any], parent: Any, key: Any) -> None:
    change = rng.randrange(6)
    if change == 0 and parent is not root:
        del parent[key]
    elif change == 1 and isinstance(parent, dict):
        parent[rng.choice(("", "x", "\ud800", f"{key}s", "a.b"))] = parent.pop(key)
    elif change == 2:
        parent[key] = [parent[key]] if rng.random() < 0.5 else {"x": parent[key]}
    elif change == 3:
        donor, name = rng.choice(list(_places(root)))
        parent[key] = copy.deepcopy(donor[name])
    else:
        parent[key] = _near(rng, parent[key])


def _near(rng: Random, value: Any) -> Any:
    """An odd value, or one that differs little from a number or text."""
    if isinstance(value, bool) or rng.random() < 0.6:
        return copy.deepcopy(rng.choice(ODD))
    if isinstance(value, int | float):
        return rng.choice((value + 1, value - 1, -value, 2 * value, value * 10**6, f"{value}"))
    text = f"{value}"[:2000].encode(errors="replace")
    return damaged_text(rng, text).decode(errors="replace")


def json_text(tree: Any) -> str:
    """JSON with its stand-ins replaced."""
    text = json.dumps(tree)
    for name, raw in _RAW.items():
        text = text.replace(name, raw)
    return text


def damaged_json(rng: Random, tree: Any) -> bytes:
    """Mostly valid JSON of another shape, else damaged bytes."""
    if rng.random() < 0.25:
        return rng.choice((damaged_text, damaged_bytes))(rng, json.dumps(tree, indent=1).encode())
    text = json_text(damaged_tree(rng, tree))
    if isinstance(tree, dict) and rng.random() < 0.05:
        text = text.replace("{", '{"x": 1, "x": 2, ', 1)
    return text.encode()


def damaged_safetensors(rng: Random, data: bytes) -> bytes:
    """The header's JSON, its length, or the body."""
    size = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + size], data[8 + size :]
    part = rng.random()
    if part < 0.15:
        return rng.choice((0, 1, size + 1, 2**40, 2**64 - 1)).to_bytes(8, "little") + data[8:]
    if part < 0.35:
        return data[: 8 + size] + damaged_bytes(rng, body)
    changed = damaged_json(rng, json.loads(header))
    return len(changed).to_bytes(8, "little") + changed + body


def replaced(path: Path, content: bytes) -> None:
    """Write a file anew: its old content may be shared with other folders by hard links."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def gguf(
    metadata: Mapping[str, tuple[int, Any]], tensors: Sequence[tuple[str, Sequence[int]]]
) -> bytes:
    """A GGUF file, version 3, of fp32 zeros.

    Args:
        metadata: Key to the number of a type and a value; 8 is a string, 9 an array of strings.
        tensors: Names and shapes, the fastest dimension first.
    """
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, (kind, value) in metadata.items():
        parts += [_text(key), struct.pack("<I", kind), _packed(kind, value)]
    offset = 0
    for name, shape in tensors:
        parts += [_text(name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)]
        offset += -(-4 * math.prod(shape) // 32) * 32
    header = b"".join(parts)
    return header + bytes(-len(header) % 32 + offset)


def _text(text: str) -> bytes:
    raw = text.encode(errors="surrogatepass")
    return struct.pack("<Q", len(raw)) + raw


def _packed(kind: int, value: Any) -> bytes:
    if kind == 8:
        return _text(value)
    if kind == 9:
        return struct.pack("<IQ", 8, len(value)) + b"".join(map(_text, value))
    return struct.pack({4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q"}[kind], value)


def damaged_metadata(
    rng: Random, metadata: Mapping[str, tuple[int, Any]]
) -> dict[str, tuple[int, Any]]:
    """Metadata of GGUF with values retyped, removed, or out of range."""
    changed = dict(metadata)
    odd: tuple[tuple[int, Any], ...] = (
        (4, 0), (4, 1), (4, 2**31), (4, 2**32 - 1), (5, -1), (6, math.nan), (6, math.inf), (7, True),
        (8, ""), (8, "\ud800"), (8, "x" * 300), (9, []), (9, ["", "a"]), (10, 2**63), (11, -(2**62)),
    )  # fmt: skip
    for _ in range(rng.choice(_CHANGES)):
        key = rng.choice(list(changed))
        if rng.random() < 0.2:
            changed.pop(key)
        else:
            changed[key] = rng.choice(odd)
    return changed or dict(metadata)
