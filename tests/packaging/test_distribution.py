"""The package knows its version and targets installed or not: from metadata, or from the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from numprune_export.core import plugins
from numprune_export.export import servers, targets
from numprune_exporters import contract_check

ROOT = Path(__file__).parents[2]

ASK = """
import json, sys
from importlib.metadata import PackageNotFoundError, distribution
try:
    distribution("numprune-export")
    installed = True
except PackageNotFoundError:
    installed = False
from numprune_export.export import servers, targets
from numprune_export.core.version import __version__
print(json.dumps({
    "installed": installed,
    "version": __version__,
    "targets": targets.names(),
    "servers": servers.names(),
    "exporter": type(targets.find("onnx")).__name__,
    "packages": __import__("numprune_export.measure.environment", fromlist=["x"]).package_versions(),
    "from": __import__("numprune_export").__file__,
}))
"""


@pytest.fixture(scope="module")
def project():
    # Python 3.10 has none of its own; pytest brings one there.
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory):
    """This environment's packages, all but our own."""
    site = tmp_path_factory.mktemp("site")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "numprune" not in path.name and path.suffix != ".pth":
            (site / path.name).symlink_to(path)
    return site


def isolated(code: list[str], cwd: Path, *path: Path) -> str:
    """Run Python that sees these folders only: no site-packages and no .pth file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, "-S", *code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_our_reading_of_the_project_file_is_that_of_a_toml_parser(project):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert plugins.own_version() == project["version"]
    for group, entries in project["entry-points"].items():
        assert plugins._section(text, f'project.entry-points."{group}"') == entries
    assert plugins._section(text, "no.such.table") == {}


def test_a_plain_checkout_has_its_version_and_targets(project, bare_site, tmp_path):
    for name in ("numprune_export", "exporters", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    out = isolated(["-c", ASK], tmp_path, tmp_path, tmp_path / "exporters", bare_site)
    answer = json.loads(out)
    assert answer["installed"] is False
    assert Path(answer["from"]).parent == tmp_path / "numprune_export"
    assert answer["version"] == answer["packages"]["numprune-export"] == project["version"]
    assert answer["targets"] == sorted(project["entry-points"][targets.GROUP])
    assert answer["servers"] == sorted(project["entry-points"][servers.GROUP])
    assert answer["exporter"] == "OnnxExporter"


def test_a_plain_checkout_runs_as_documented(bare_site):
    out = isolated(["-m", "numprune_export", "targets"], ROOT, Path(), Path("exporters"), bare_site)
    assert all(name in out for name in targets.names())


def test_an_installed_package_reads_its_metadata(monkeypatch, tmp_path):
    monkeypatch.setattr(plugins, "_PROJECT", tmp_path / "pyproject.toml")
    assert plugins.own_version()
    entries = {entry.name: entry for entry in entry_points(group=targets.GROUP)}
    assert plugins.registered(targets.GROUP) == entries


def test_the_project_file_of_another_project_is_not_ours(monkeypatch, tmp_path):
    other = tmp_path / "pyproject.toml"
    other.write_text('[project]\nname = "other"\nversion = "9"\n')
    monkeypatch.setattr(plugins, "_PROJECT", other)
    assert plugins.own_version() != "9"


def test_the_checkout_comes_before_the_metadata_and_others_stay(monkeypatch, tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\nname = "numprune-export"\nversion = "7.1"\n'
        f'[project.entry-points."{targets.GROUP}"]\nnew = "json:JSONDecoder" # a reason\n'
    )
    foreign = EntryPoint("foreign", "json:JSONEncoder", targets.GROUP)
    mine = list(entry_points(group=targets.GROUP))
    monkeypatch.setattr(plugins, "_PROJECT", project)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [foreign, *mine])
    assert plugins.own_version() == "7.1"
    assert sorted(plugins.registered(targets.GROUP)) == ["foreign", "new"]
    assert plugins.registered(targets.GROUP)["new"].load() is json.JSONDecoder


def test_what_is_not_installed_has_no_version():
    assert plugins.installed_version("no-such-distribution") is None
    assert plugins.installed_version("numprune-export") == plugins.own_version()
    assert plugins.installed_version("torch")


def test_the_type_checker_sees_every_class_that_entry_points_name():
    for group, classes in (
        (targets.GROUP, contract_check.TARGETS),
        (servers.GROUP, contract_check.PACKAGERS),
    ):
        named = {entry.load() for entry in plugins.registered(group).values()}
        assert named == {type(plugin) for plugin in classes}
