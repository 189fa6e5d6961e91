"""The notebooks run with what ships with the repository, and what they state holds.

Their code cells are executed in order, in this process. To refresh the stored outputs:
`jupyter nbconvert --to notebook --execute --inplace docs/notebooks/*.ipynb`.
"""

import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from mkdocs.config import load_config

from notebook_pages import rendered

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def nbformat():
    """Imported here: it takes five seconds, in every worker of the suite."""
    import nbformat

    return nbformat


def notebook_named(name):
    notebook = nbformat().read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat().validate(notebook)
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Execute a notebook in an empty folder; returns its variables."""
    monkeypatch.chdir(tmp_path)
    backend = mpl.get_backend()
    mpl.use("Agg")

    def run(name):
        variables = {"__name__": "__main__"}
        for number, cell in enumerate(code_cells(notebook_named(name))):
            exec(compile(cell.source, f"{name}.ipynb, code cell {number}", "exec"), variables)
        return variables

    yield run
    plt.close("all")
    mpl.use(backend)


@pytest.mark.slow
def test_prune(execute, capsys):
    made = execute("prune")
    assert made["comparison"].perplexity_ratio == pytest.approx(1.33, abs=0.1)
    assert made["comparison"].parameters[1] == made["pruned"].model.num_parameters()
    assert made["pruned"].keep == pytest.approx(0.7, abs=0.01)
    assert made["round_trip"].perplexity_ratio == 1
    assert made["generated"](made["reloaded"]) == made["generated"](made["pruned"].model)
    assert (made["folder"] / "manifest.json").is_file()
    assert "stages: calibrate, score, allocate" in capsys.readouterr().out


@pytest.mark.slow
def test_compare(execute):
    made = execute("compare")
    for keep in made["BUDGETS"]:
        rows = {method: made["comparisons"][keep, method] for method in made["METHODS"]}
        assert min(rows, key=lambda method: rows[method].perplexity_ratio) == "best"
        assert min(rows, key=lambda method: rows[method].divergence) == "best"
        parameters = [row.parameters[1] for row in rows.values()]
        assert max(parameters) < 1.01 * min(parameters)
    lines = [len(axes.get_lines()) for axes in made["figure"].axes]
    assert lines == [len(made["METHODS"])] * 4


@pytest.mark.slow
def test_export(execute):
    made = execute("export")
    assert made["parity"].max_abs_error < 1e-3
    assert made["parity"].top1_agreement == 1
    assert made["artifacts"]["pruned"].size_bytes < made["artifacts"]["dense"].size_bytes
    assert made["speedup"].low <= made["speedup"].value <= made["speedup"].high
    assert made["same"].passed
    assert not made["verdict"].refused
    failed = {failure.name for failure in made["verdict"].failures}
    assert "quality.perplexity.onnx" in failed


def test_every_notebook_is_executed_and_in_the_navigation():
    names = [path.stem for path in NOTEBOOKS]
    assert names == ["compare", "export", "prune"]
    navigation = json.dumps(load_config(str(ROOT / "mkdocs.yml")).nav)
    assert [name for name in names if f'"notebooks/{name}.md"' not in navigation] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_of_one_whole_run(path):
    cells = code_cells(notebook_named(path.stem))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    streams = {
        output.name for cell in cells for output in cell.outputs if output.output_type == "stream"
    }
    assert streams == {"stdout"}


def written(*cells):
    return nbformat().writes(nbformat().v4.new_notebook(cells=list(cells)))


def test_a_page_shows_cells_and_outputs_in_order():
    printed = nbformat().v4.new_output("stream", name="stdout", text="2\n")
    figure = nbformat().v4.new_output(
        "display_data", {"image/png": "AAEC", "text/plain": "<Figure>"}
    )
    text = written(
        nbformat().v4.new_markdown_cell("# Title\n\nSee [next](other.ipynb)."),
        nbformat().v4.new_code_cell("print(1 + 1)", outputs=[printed, figure]),
    )
    files = rendered("folder/first.ipynb", text)
    assert set(files) == {"folder/first.md", "folder/first-1-1.png"}
    assert files["folder/first-1-1.png"] == b"\x00\x01\x02"
    assert files["folder/first.md"] == (
        "# Title\n\nSee [next](other.md).\n\n```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n\n"
        "![figure](first-1-1.png)\n\n---\n\nDownload: [first.ipynb](first.ipynb)\n"
    )


def test_an_error_in_the_stored_outputs_is_refused():
    failed = nbformat().v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    with pytest.raises(ValueError, match="cannot be shown"):
        rendered("first.ipynb", written(nbformat().v4.new_code_cell("1 / 0", outputs=[failed])))
