"""Reference pages say what the code does; `make docs` holds navigation and links of the site."""

import json
import re
from pathlib import Path

import pytest
import typer
from mkdocs.config import load_config

from command_pages import commands_page
from generated_pages import pages, result_pages
from numprune_export.cli.app import app
from numprune_export.core import errors
from numprune_export.core.errors import NumpruneError
from numprune_export.report.schema import Report
from schema_tables import recipe_page

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(app).commands
OUTSIDE_THE_SITE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "exporters/README.md",
    "benchmarks/README.md",
)


@pytest.fixture(scope="module")
def recipe_schema():
    return json.loads((ROOT / "recipes" / "schema.json").read_text(encoding="utf-8"))


def first_cells(table):
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_listed_with_its_help(name):
    section = commands_page(app).partition(f"## numprune-export {name}\n")[2].partition("\n## ")[0]
    assert COMMANDS[name].help in section
    for parameter in COMMANDS[name].params:
        if parameter.name == "help":
            continue
        assert parameter.help, f"{name} {parameter.name} has no help text"
        row = next(line for line in section.splitlines() if f"`{parameter.opts[0]}`" in line)
        assert " ".join(parameter.help.split()).replace("|", "\\|") in row


def test_every_key_of_the_recipe_schema_is_listed_once_a_section(recipe_schema):
    page = recipe_page(recipe_schema)
    sections = [part for part in re.split(r"^## ", page, flags=re.MULTILINE) if "| key |" in part]
    wanted = [recipe_schema, *recipe_schema["$defs"].values()]
    keys = sorted(sorted(part["properties"]) for part in wanted if "properties" in part)
    assert sorted(sorted(first_cells(section)) for section in sections) == keys


def test_a_key_shows_its_type_bounds_default_and_alternatives(recipe_schema):
    page = recipe_page(recipe_schema)
    assert "| `keep` | number > 0 ≤ 1 | `0.8` |" in page
    assert '| `query_heads` | `grouped` \\| `single` | `"grouped"` |' in page
    assert "| `version` | `1` | required |" in page
    assert "| `threads` | integer > 0 or null | `null` |" in page


def test_every_key_of_the_report_is_listed():
    top = pages()["reference/report-keys.md"].partition("## Top level")[2].partition("\n## ")[0]
    assert first_cells(top) == list(Report.model_fields)


def metric_patterns():
    """First cells of the metrics page; a name without dots replaces the last part of the first."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    for cell in re.findall(r"^\| (`.*?) \| ", page, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", cell)
        stem = first.rpartition(".")[0]
        for name in (first, *(other if "." in other else f"{stem}.{other}" for other in others)):
            parts = re.split(r"(<[^>]+>|\*)", name)
            yield "".join(
                ".+" if part == "*" else "[^.]+" if part.startswith("<") else re.escape(part)
                for part in parts
            )


@pytest.mark.parametrize("report", ["smollm2-keep80", "minilm-trec-macs50"])
def test_every_metric_of_a_report_is_documented(report):
    content = json.loads((ROOT / "benchmarks" / "results" / f"{report}.json").read_text())
    patterns = [re.compile(pattern) for pattern in metric_patterns()]
    undocumented = [
        name
        for name in content["metrics"]
        if not any(pattern.fullmatch(name) for pattern in patterns)
    ]
    assert undocumented == []


def test_every_error_is_listed_with_its_exit_code():
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \d+ \| `(\w+)` ()", page, re.MULTILINE))
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    kinds = [kind for kind in classes if issubclass(kind, NumpruneError)]
    assert set(rows) == {kind.__name__ for kind in kinds if kind is not NumpruneError}
    for kind in kinds:
        if kind is not NumpruneError:
            assert f"| {kind.exit_code} | `{kind.__name__}` |" in page


def test_every_result_file_is_a_page_in_the_navigation():
    navigation = json.dumps(load_config(str(ROOT / "mkdocs.yml")).nav)
    assert len(result_pages()) > 20
    assert [page for page in result_pages() if f'"{page}"' not in navigation] == []


@pytest.mark.parametrize("name", OUTSIDE_THE_SITE)
def test_links_of_pages_outside_the_site_lead_to_files(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not ((ROOT / name).parent / link).exists()] == []


@pytest.mark.parametrize("name", OUTSIDE_THE_SITE[1:])
def test_pages_that_the_site_includes_have_no_relative_links(name):
    """A link would be relative to the including page there."""
    assert re.findall(r"\]\((?!https?:)", (ROOT / name).read_text(encoding="utf-8")) == []
