"""The composite action and the example workflow: whole YAML, and steps that do what they say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from command import QUIET, command
from small import small_recipe

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "numprune-check" / "action.yml"
WORKFLOW = ROOT / ".github" / "workflows" / "regression.yml"
EXPRESSION = re.compile(r"\$\{\{\s*inputs\.([\w-]+)\s*\}\}")


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def execute(step, inputs, folder):
    """One step as the runner starts it: bash that stops at the first error, inputs by environment."""
    given = {
        name: declaration.get("default", "") for name, declaration in load(ACTION)["inputs"].items()
    } | inputs
    environment = {
        name: EXPRESSION.sub(lambda match: given[match[1]], value)
        for name, value in step["env"].items()
    }
    scripts = str(Path(sys.executable).parent)
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={
            **os.environ,
            **QUIET,
            **environment,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        },
        capture_output=True,
        text=True,
    )


def test_steps_take_inputs_through_the_environment_only():
    """What is pasted into a script by the runner could be a command."""
    for step in load(ACTION)["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
        for value in step["env"].values():
            (name,) = EXPRESSION.findall(value)
            assert name in load(ACTION)["inputs"]


def test_the_workflow_calls_the_action_with_inputs_that_it_has():
    known = load(ACTION)["inputs"]
    required = {name for name, declaration in known.items() if declaration.get("required")}
    calls = [
        step["with"]
        for job in load(WORKFLOW)["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith("./")
    ]
    assert len(calls) == 2
    for call in calls:
        assert required <= call.keys() <= known.keys()
    for uses in re.findall(r"uses: (\./\S+)", WORKFLOW.read_text(encoding="utf-8")):
        assert (ROOT / uses / "action.yml").is_file()


def test_the_workflow_names_recipes_and_baselines_that_are_there():
    call = load(WORKFLOW)["jobs"]["pre-merge"]["steps"][-2]["with"]
    assert (ROOT / "recipes" / f"{call['recipe']}.yaml").is_file()
    assert (ROOT / call["baseline"]).is_file()


@pytest.mark.slow
def test_the_steps_run_check_and_tell(tmp_path):
    """A first run without a baseline, then against its own, then against one that was better."""
    run, check = load(ACTION)["runs"]["steps"]
    recipe = str(small_recipe(tmp_path))
    begun = command("run", recipe, "--out", "out dir", "--quiet", cwd=tmp_path)
    assert begun.code == 0, begun.err  # the step goes on with it
    inputs = {"recipe": recipe, "out": "out dir", "run-options": "--quiet"}
    done = execute(run, inputs, tmp_path)
    assert done.returncode == 0, done.stderr
    done = execute(check, inputs, tmp_path)
    assert done.returncode == 0, done.stderr
    kept = command("baseline", "out dir", "--out", "base.json", cwd=tmp_path)
    assert kept.code == 0, kept.err

    done = execute(check, {**inputs, "baseline": "base.json"}, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::notice title=numprune-export check::passed" in done.stdout
    root = ElementTree.parse(tmp_path / "out dir" / "check.xml").getroot()
    assert root.get("failures") == "0"
    assert json.loads((tmp_path / "out dir" / "check.json").read_text())["passed"] is True

    better = json.loads((tmp_path / "base.json").read_text())
    better["metrics"]["quality.perplexity.onnx"]["value"] *= 0.9
    (tmp_path / "better.json").write_text(json.dumps(better))
    told = {**inputs, "baseline": "better.json", "check-options": "--without-latency"}
    done = execute(check, told, tmp_path)
    assert done.returncode == 9
    assert "::error title=regressed%3A quality.perplexity.onnx::" in done.stdout
    assert (tmp_path / "summary.md").read_text().count("### ✅") == 2
    assert (tmp_path / "summary.md").read_text().count("### ❌") == 1
    root = ElementTree.parse(tmp_path / "out dir" / "check.xml").getroot()
    assert root.get("failures") == "1"


@pytest.mark.parametrize(
    "options", ["--allow-different-machine --without-latency", "--recipe smoke"]
)
def test_options_are_words_that_check_knows(options):
    done = subprocess.run(
        [sys.executable, "-m", "numprune_export", "check", "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, **QUIET, "COLUMNS": "200"},
    )  # fmt: skip
    for word in re.findall(r"--[\w-]+", options):
        assert word in done.stdout
