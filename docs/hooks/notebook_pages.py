"""MkDocs hook: every notebook of docs/ as a Markdown page, with its stored outputs; nothing is executed.

The notebook itself stays in the site, as a file to download.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_NOTEBOOK_LINK = re.compile(r"\]\(([^():]+)\.ipynb\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page and the figures of each notebook before the navigation is resolved."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        for uri, content in rendered(notebook.src_uri, notebook.content_string).items():
            files.append(File.generated(config, uri, content=content))
    return files


def rendered(uri: str, text: str) -> dict[str, str | bytes]:
    """A notebook as files of the site.

    Args:
        uri: Path of the notebook under the docs folder.
        text: Its JSON.

    Returns:
        Path to content: the Markdown page, and a PNG file per figure.

    Raises:
        nbformat.ValidationError: the text is not a notebook of format 4.
        ValueError: a cell has an output that cannot be shown.
    """
    import nbformat  # seconds: only builds of the site wait for it

    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    path = PurePosixPath(uri)
    figures: dict[str, str | bytes] = {}
    parts: list[str] = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(_NOTEBOOK_LINK.sub(r"](\1.md)", cell.source))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for shown, figure in _outputs(cell.outputs, f"{path.stem}-{number}"):
            parts.append(shown)
            figures |= {str(path.with_name(name)): png for name, png in figure.items()}
    parts.append(f"---\n\nDownload: [{path.name}]({path.name})")
    return {str(path.with_suffix(".md")): "\n\n".join(parts) + "\n", **figures}


def _outputs(outputs: list[Any], stem: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Markdown of each output, and the figures that it refers to."""
    for number, output in enumerate(outputs):
        data = output.get("data", {})
        if output.output_type == "stream":
            yield _text(output.text), {}
        elif "image/png" in data:
            name = f"{stem}-{number}.png"
            yield f"![figure]({name})", {name: base64.b64decode(data["image/png"])}
        elif "text/plain" in data:
            yield _text(data["text/plain"]), {}
        else:
            raise ValueError(f"`{stem}`: output of type `{output.output_type}` cannot be shown")


def _text(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
