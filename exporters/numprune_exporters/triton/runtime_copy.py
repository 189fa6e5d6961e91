"""Copy the modules that run an artifact, with everything of this project that they import."""

from __future__ import annotations

import ast
import importlib.util
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOTS = ("numprune_export", "numprune_exporters")
PACKAGE = '"""Copied from numprune-export: code to run one exported model."""\n'
TELEMETRY = "numprune_export.core.telemetry"
ROOT_PACKAGE = f"""{PACKAGE}
from {TELEMETRY} import switch_off

switch_off()
"""


def copy_modules(names: Iterable[str], folder: Path) -> None:
    """Copy modules and their imports from this project, as packages below `folder`.

    Modules are copied unchanged. The `__init__.py` files are replaced, because the originals import
    more than is needed here. Those of the root packages turn telemetry off, as the originals do.
    """
    for name in sorted(closure([*names, TELEMETRY])):
        path = folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_source(name), path)
        for parent in path.relative_to(folder).parents[:-1]:
            text = ROOT_PACKAGE if str(parent) in ROOTS else PACKAGE
            (folder / parent / "__init__.py").write_text(text)


def closure(names: Iterable[str]) -> set[str]:
    """These modules and all modules of this project that they import, without packages."""
    modules: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in modules:
            modules.add(name)
            waiting += _imports(name)
    return modules


def _imports(name: str) -> Iterator[str]:
    tree = ast.parse(_source(name).read_text(encoding="utf-8"))
    for node in _run_time_nodes(tree):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from filter(_is_module, candidates)


def _run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node outside `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _run_time_nodes(child)


def _is_module(name: str) -> bool:
    if name.partition(".")[0] not in ROOTS:
        return False
    # A name imported from a module is not a module: its parent has no search locations.
    parent, _, _ = name.rpartition(".")
    parent_spec = importlib.util.find_spec(parent) if parent else None
    if parent_spec is None or parent_spec.submodule_search_locations is None:
        return False
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.submodule_search_locations is None


def _source(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec, name
    assert spec.origin, name
    return Path(spec.origin)
