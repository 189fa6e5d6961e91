"""MkDocs hook: reference pages from the code, and a page per file of benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from command_pages import commands_page
from numprune_export.cli.app import app
from numprune_export.report.schema import Report
from schema_tables import recipe_page, report_page

ROOT = Path(__file__).parents[2]
RESULTS = "results/tables"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages before the navigation is resolved."""
    for uri, content in pages().items():
        files.append(File.generated(config, uri, content=content))
    return files


def pages() -> dict[str, str]:
    """Path under the site to Markdown."""
    return {
        "reference/commands.md": commands_page(app),
        "reference/recipe.md": recipe_page(_json(ROOT / "recipes" / "schema.json")),
        "reference/report-keys.md": report_page(Report.model_json_schema()),
        **result_pages(),
    }


def result_pages() -> dict[str, str]:
    """Each Markdown file of benchmarks/results, unchanged below a title and its path."""
    return {
        f"{RESULTS}/{path.name}": _titled(path)
        for path in sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    }


def _titled(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    title = "" if text.startswith("# ") else f"# {path.stem}\n\n"
    return f"{title}{text}\n---\n\nFile: `{path.relative_to(ROOT).as_posix()}`\n"


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
