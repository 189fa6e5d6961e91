"""Tables of keys from a JSON schema: key, type, default, meaning; a section per object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

HEADER = "| key | type | default | meaning |\n|---|---|---|---|\n"
BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def recipe_page(schema: Schema) -> str:
    """Every key of a recipe, section by section, as `recipes/schema.json` has them."""
    return (
        "# Recipe keys\n\nGenerated from `recipes/schema.json`. `numprune-export schema` prints the"
        " same schema for editors. A key without a default is required.\n\n"
        "A section with several forms is chosen by its `method`; `score: wanda` is short for"
        " `score: {method: wanda}`.\n\n## Top level\n\n" + sections(schema)
    )


def report_page(schema: Schema) -> str:
    """Every key of report.json."""
    return (
        "# Report keys\n\nGenerated from the report's schema (`format_version` 1). The names inside"
        " `metrics` are listed under [Metrics](metrics.md).\n\n"
        "`report.json` also holds `sha256`, a hash of its other content.\n\n## Top level\n\n"
        + sections(schema)
    )


def sections(schema: Schema) -> str:
    """A table of the schema's own keys, then one of every object below it."""
    definitions = schema.get("$defs", {})
    parts = [_table(schema, definitions)]
    for name, places in _places(schema, definitions).items():
        definition = definitions[name]
        heading = ", ".join(f"`{place}`" for place in places)
        parts.append(f"## {heading}\n\n{_described(definition)}{_table(definition, definitions)}")
    return "\n".join(parts)


def cell(text: str) -> str:
    """Text that stays inside one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def _places(schema: Schema, definitions: Schema) -> dict[str, list[str]]:
    """Definitions with keys of their own, in the order of the schema, to where they are used."""
    places: dict[str, list[str]] = {}
    for name, place in _nested("", schema, definitions, frozenset()):
        if "properties" in definitions[name] and place not in places.setdefault(name, []):
            places[name].append(place)
    return places


def _nested(
    prefix: str, schema: Schema, definitions: Schema, above: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """Definitions below `schema` in the order of its keys, each with its place in the file."""
    for key, value in schema.get("properties", {}).items():
        place = f"{prefix}.{key}" if prefix else key
        references = [name for name in _references(value) if name not in above]
        for name in references:
            definition = definitions[name]
            method = definition.get("properties", {}).get("method", {}).get("const")
            several = f" ({definition['title']})" if len(references) > 1 else ""
            yield name, f"{place}: {method}" if method else f"{place}{several}"
            yield from _nested(place, definition, definitions, above | {name})


def _references(schema: Schema) -> list[str]:
    if "$ref" in schema:
        return [schema["$ref"].rsplit("/", 1)[-1]]
    elements = (schema.get(key) for key in ("items", "additionalProperties"))
    inner = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    inner += [element for element in elements if isinstance(element, Mapping)]
    return [name for part in inner for name in _references(part)]


def _table(schema: Schema, definitions: Schema) -> str:
    required = schema.get("required", ())
    rows = (
        f"| `{key}` | {_type(value, definitions)} | {_default(key, value, required)} |"
        f" {cell(value.get('description', ''))} |\n"
        for key, value in schema.get("properties", {}).items()
    )
    return HEADER + "".join(rows)


def _type(schema: Schema, definitions: Schema) -> str:
    if "$ref" in schema:
        definition = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        return "section" if "properties" in definition else _type(definition, definitions)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if alternatives:
        return " or ".join(dict.fromkeys(_type(part, definitions) for part in alternatives))
    if "items" in schema:
        return f"list of {_type(schema['items'], definitions)}"
    bounds = "".join(f" {sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema)
    return f"{schema.get('type', 'any')}{bounds}"


def _default(key: str, schema: Schema, required: Any) -> str:
    if key in required:
        return "required"
    if "default" not in schema:
        return ""
    value = schema["default"]
    if isinstance(value, dict):
        return "section's defaults" if value else "`{}`"
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= 60 else f"{len(value)} entries"


def _described(schema: Schema) -> str:
    return f"{schema['description']}\n\n" if "description" in schema else ""
