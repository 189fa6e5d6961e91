"""`check` and `baseline` as a user calls them: exit codes, files, and what a bad file is told."""

import json
import subprocess
import sys

import pytest
import yaml
from command import command
from gate import runs

from numprune_export.gate import evidence
from numprune_export.report.store import to_json

SPEEDUP = "latency.onnx.prefill.speedup"


@pytest.fixture
def files(tmp_path):
    """A good report, a slower one, and a baseline written from the good one."""

    def write(name, report):
        (tmp_path / name).write_text(to_json(report), encoding="utf-8")

    write("good.json", runs.report())
    slower = runs.with_metric(SPEEDUP, value=1.1, low=1.09, high=1.11).metrics
    write("slower.json", runs.report(metrics=slower))
    (tmp_path / "baseline.json").write_text(evidence.to_json(runs.evidence()), encoding="utf-8")
    return tmp_path


def check(files, *arguments, **environment):
    return command("check", *arguments, cwd=files, **environment)


LOADED = """
import json, sys
sys.argv = ["numprune-export", *sys.argv[1:]]
from numprune_export.cli import app
try:
    app.main()
except SystemExit as exit_:
    assert not exit_.code, exit_.code
names = ("torch", "numpy", "transformers", "onnx", "onnxruntime", "matplotlib", "numprune_export.recipe")
print(json.dumps([name for name in names if name in sys.modules]))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["good.json", "--baseline", "baseline.json"],
        ["good.json", "--baseline", "good.json", "--format", "junit"],
        ["good.json", "--recipe", "recipe.yaml"],
    ],
)
def test_check_loads_nothing_heavy(files, arguments):
    (files / "recipe.yaml").write_text("version: 1\ngate: {min: {'latency.*.speedup': 1}}\n")
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "check", *arguments],
        cwd=files, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == []


LIBRARIES = "import pydantic, rich.table, typer, yaml"


def test_check_costs_little_more_than_the_libraries_it_reads_with(files):
    """Processor time as a ratio: seconds are the machine's. Measured 2.3; half a second where the libraries take 0.22."""
    resource = pytest.importorskip("resource")

    def spent():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    libraries, whole = [], []
    for _ in range(5):
        start = spent()
        subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
        between = spent()
        assert check(files, "good.json", "--baseline", "baseline.json").code == 0
        libraries.append(between - start)
        whole.append(spent() - between)
    assert min(whole) < 4 * min(libraries), (whole, libraries)


def test_a_report_that_is_as_before_passes(files):
    done = check(files, "good.json", "--baseline", "baseline.json")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1].startswith("passed: ")


def test_a_regression_is_exit_9_and_named_on_both_streams(files):
    done = check(files, "slower.json", "--baseline", "baseline.json")
    assert done.code == 9
    assert f"error: the report fails the gate: `{SPEEDUP}`" in done.err
    assert "hint: " in done.err
    assert "regressed" in done.out


def test_another_machine_is_exit_10_and_can_be_allowed(files):
    other = runs.report(environment=runs.with_environment(cpu="Another CPU").environment)
    (files / "other.json").write_text(to_json(other), encoding="utf-8")
    done = check(files, "other.json", "--baseline", "baseline.json")
    assert done.code == 10
    assert "cpu: `Some CPU | with a pipe` in the baseline, `Another CPU` in the report" in done.out
    allowed = check(files, "other.json", "--baseline", "baseline.json", "--allow-different-machine")
    assert allowed.code == 0
    assert "compared anyway:" in allowed.out


def test_another_model_is_exit_10_whatever_is_allowed(files):
    (files / "other.json").write_text(to_json(runs.report(dense_sha256="0" * 64)), "utf-8")
    for option in ("--allow-different-machine", "--without-latency"):
        done = check(files, "other.json", "--baseline", "baseline.json", option)
        assert done.code == 10
        assert "dense model (sha256)" in done.err


def test_without_latency_a_slower_run_passes(files):
    assert check(files, "slower.json", "--baseline", "baseline.json", "--without-latency").code == 0


def test_without_a_baseline_only_limits_are_judged(files):
    assert check(files, "slower.json").out == "passed: nothing to judge\n"
    recipe = files / "strict.yaml"
    recipe.write_text(yaml.safe_dump({"version": 1, "gate": {"min": {SPEEDUP: 1.2}}}))
    assert check(files, "good.json", "--recipe", "strict.yaml").code == 0
    done = check(files, "slower.json", "--recipe", "strict.yaml")
    assert done.code == 9
    assert f"{SPEEDUP} >= 1.2" in done.out


def test_the_limits_of_the_run_are_the_default(files):
    recipe = {**runs.RECIPE, "gate": {"max": {"quality.perplexity.onnx": 20}}}
    (files / "strict.json").write_text(to_json(runs.report(recipe=recipe)), "utf-8")
    assert check(files, "strict.json").code == 9
    (files / "lenient.yaml").write_text("version: 1\n")
    assert check(files, "strict.json", "--recipe", "lenient.yaml").code == 0


def test_a_shipped_recipe_goes_by_its_name(files):
    assert check(files, "good.json", "--recipe", "smoke").code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\ngate: {least: {}}\n", "`gate.least`"),
        ("gate: [", "is not YAML"),
        ("gate: {}\n", "is not a recipe"),
    ],
)
def test_a_recipe_that_is_wrong_is_exit_2(files, text, message):
    (files / "wrong.yaml").write_text(text)
    done = check(files, "good.json", "--recipe", "wrong.yaml")
    assert done.code == 2
    assert message in done.err


def content_of(files, name):
    return json.loads((files / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["good.json", "baseline.json"])
def test_what_was_edited_by_hand_is_said(files, name):
    content = content_of(files, name)
    content["metrics"][SPEEDUP]["samples"] += 0
    content["metrics"][SPEEDUP]["high"] = 1.45
    (files / "edited.json").write_text(json.dumps(content))
    pair = ("edited.json", "--baseline", "baseline.json")
    if name == "baseline.json":
        pair = ("good.json", "--baseline", "edited.json")
    done = check(files, *pair)
    which = "report" if name == "good.json" else "baseline"
    assert f"the {which} was edited after it was written" in done.out
    assert "edited" in check(files, *pair, "--format", "github").out


def test_a_report_of_before_hashes_is_taken_and_that_is_said(files):
    content = content_of(files, "good.json")
    for key in ("sha256", "dense_sha256", "evaluation_sha256"):
        del content[key]
    (files / "old.json").write_text(json.dumps(content))
    done = check(files, "old.json", "--baseline", "old.json")
    assert done.code == 0
    assert "the report has no sha256" in done.out


@pytest.mark.parametrize("name", ["good.json", "baseline.json"])
@pytest.mark.parametrize("side", ["report", "baseline"])
def test_a_truncated_file_is_exit_4(files, name, side):
    text = (files / name).read_text(encoding="utf-8")
    (files / "half.json").write_text(text[: len(text) // 2], encoding="utf-8")
    names = ("half.json", "baseline.json") if side == "report" else ("good.json", "half.json")
    done = check(files, names[0], "--baseline", names[1])
    assert done.code == 4
    assert "half.json" in done.err


@pytest.mark.parametrize("name", ["good.json", "baseline.json"])
def test_a_file_of_the_future_is_exit_4(files, name):
    content = {**content_of(files, name), "format_version": 99}
    (files / "future.json").write_text(json.dumps(content))
    done = check(files, "good.json", "--baseline", "future.json")
    assert done.code == 4
    assert "format `99`" in done.err
    assert "update numprune-export" in done.err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "numprune-export baseline"}', "\x00"])
def test_what_is_no_report_is_exit_4(files, text):
    (files / "none.json").write_text(text)
    assert check(files, "good.json", "--baseline", "none.json").code == 4
    assert check(files, "absent.json").code == 4


def test_a_run_folder_stands_for_its_report(files):
    (files / "run").mkdir()
    (files / "good.json").rename(files / "run" / "report.json")
    assert check(files, "run", "--baseline", "baseline.json").code == 0
    done = command("baseline", "run", "--out", "kept/new.json", cwd=files)
    assert (done.code, done.out) == (0, "baseline: kept/new.json\n")
    assert check(files, "run", "--baseline", "kept/new.json").code == 0


def test_a_baseline_file_is_whole_stable_and_smaller(files):
    place = files / "baseline.json"
    baseline, seal = evidence.read(place)
    assert (baseline, seal) == (runs.evidence(), "whole")
    assert evidence.to_json(baseline) == place.read_text(encoding="utf-8")
    assert place.stat().st_size < (files / "good.json").stat().st_size
    lines = place.read_text(encoding="utf-8").splitlines()
    names = [line.split('"')[1] for line in lines if line.startswith('  "latency.')]
    assert names == sorted(names)
    assert len(names) == sum(name.startswith("latency.") for name in runs.evidence().metrics)


@pytest.mark.parametrize("format_", ["text", "junit", "json", "github"])
def test_out_takes_what_would_be_printed(files, format_):
    arguments = ("slower.json", "--baseline", "baseline.json", "--format", format_)
    printed = check(files, *arguments).out
    done = check(files, *arguments, "--out", "deep/said.txt")
    assert (done.code, done.out) == (9, "")
    assert (files / "deep" / "said.txt").read_text(encoding="utf-8") == printed


def test_github_gets_its_summary_appended(files):
    (files / "summary.md").write_text("before\n")
    arguments = ("slower.json", "--baseline", "baseline.json", "--format", "github")
    done = check(files, *arguments, GITHUB_STEP_SUMMARY=str(files / "summary.md"))
    assert done.out.startswith("::error title=regressed%3A ")
    said = (files / "summary.md").read_text(encoding="utf-8")
    assert said.startswith("before\n### ❌")


def test_a_file_that_cannot_be_written_is_exit_6(files):
    done = check(files, "good.json", "--out", "good.json/said.txt")
    assert done.code == 6
