"""One verdict as text, JUnit XML, workflow commands, Markdown and JSON."""

import json
import re
from xml.etree import ElementTree

import pytest
from gate import runs

from numprune_export.gate.judge import judge
from numprune_export.gate.limits import Gate
from numprune_export.gate.output import as_json, github, junit, text
from numprune_export.gate.verdict import Mode

SPEEDUP = "latency.onnx.prefill.speedup"
BASELINE = runs.evidence()


def failing():
    now = runs.with_metric(SPEEDUP, value=1.1, low=1.09, high=1.11)
    now = now.model_copy(
        update={"metrics": {**now.metrics, "quality.perplexity.onnx": runs.with_metric(
            "quality.perplexity.onnx", value=float("nan")).metrics["quality.perplexity.onnx"]}}
    )  # fmt: skip
    return judge(now, BASELINE, Gate(ignore=("memory.*",)), Mode())


def refused():
    return judge(runs.with_environment(cpu="<b>,\n%: CPU"), BASELINE, Gate(), Mode())


def passing():
    return judge(BASELINE, BASELINE, Gate(), Mode())


@pytest.mark.parametrize("verdict", [failing(), refused(), passing()])
def test_text_fits_a_hundred_columns_and_ends_with_the_verdict(verdict):
    said = text.render(verdict)
    assert max(len(line) for line in said.splitlines()[:-1]) <= 100
    assert said.endswith(f"{verdict.summary}\n")


def test_text_shows_what_fails_first_with_numbers_and_reason():
    lines = text.render(failing()).splitlines()
    first = next(line for line in lines if line.startswith(SPEEDUP))
    assert first.split()[1:] == ["1.41x", "1.10x", "-22.0", "%", "3.0", "%", "regressed"]
    assert lines.index(first) == 1
    assert any("the value is nan in the report" in line for line in lines)


def test_text_has_a_line_for_every_metric_when_asked():
    said = text.render(failing(), everything=True)
    for name in BASELINE.metrics:
        assert re.search(rf"^{re.escape(name)}\b", said, re.MULTILINE), name


def case(root, name):
    (testcase,) = [testcase for testcase in root.iter("testcase") if testcase.get("name") == name]
    return testcase


def test_junit_has_one_case_per_finding_and_counts_that_add_up():
    verdict = failing()
    root = ElementTree.fromstring(junit.render(verdict))
    assert root.tag == "testsuites"
    (suite,) = root
    cases = suite.findall("testcase")
    assert len(cases) == len(verdict.findings) + 1
    assert len({(testcase.get("classname"), testcase.get("name")) for testcase in cases}) == len(
        cases
    )
    assert int(suite.get("tests")) == int(root.get("tests")) == len(cases)
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 2
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped")) == 2
    assert suite.get("errors") == "0"
    for testcase in cases:
        float(testcase.get("time"))


def test_junit_says_why_a_case_failed():
    root = ElementTree.fromstring(junit.render(failing()))
    failure = case(root, SPEEDUP).find("failure")
    assert failure.get("type") == "regressed"
    assert "baseline 1.41x, report 1.10x" in failure.get("message")
    assert "change -22.0 %, allowed 3.0 %" in failure.text


def test_junit_of_incomparable_reports_is_a_failed_case_that_names_the_difference():
    root = ElementTree.fromstring(junit.render(refused()))
    failure = case(root, junit.COMPARABLE).find("failure")
    assert failure.get("type") == "incomparable"
    assert "cpu: `Some CPU | with a pipe`" in failure.text
    assert int(root.get("failures")) == 1


def test_junit_holds_what_xml_cannot():
    verdict = judge(runs.with_environment(cpu="bell \x07 & <x>"), BASELINE, Gate(), Mode())
    root = ElementTree.fromstring(junit.render(verdict))
    assert "bell \N{REPLACEMENT CHARACTER} & <x>" in case(root, junit.COMPARABLE)[0].text


COMMAND = re.compile(r"::(error|warning|notice) title=([^:,\n\r]+)::([^\n\r]+)")


@pytest.mark.parametrize("verdict", [failing(), refused(), passing()])
def test_every_annotation_is_one_whole_workflow_command(verdict):
    for line in github.commands(verdict).splitlines():
        assert COMMAND.fullmatch(line), line


def test_annotations_encode_what_would_end_them():
    (line,) = [
        command
        for command in github.commands(refused()).splitlines()
        if command.startswith("::error")
    ]
    assert "<b>,%0A%25: CPU" in line


def test_annotations_name_each_failure_up_to_what_github_shows():
    lines = github.commands(failing()).splitlines()
    errors = [line for line in lines if line.startswith("::error")]
    assert f"title=regressed%3A {SPEEDUP}::1.41x → 1.10x (-22.0 %25, allowed 3.0 %25)" in errors[0]
    empty = BASELINE.model_copy(update={"metrics": {}})
    many = [
        line
        for line in github.commands(judge(empty, BASELINE, Gate(), Mode())).splitlines()
        if line.startswith("::error")
    ]
    assert len(many) == github.MOST
    assert re.search(r"\d+ more; see the summary", many[-1])


def test_the_summary_is_a_markdown_table_without_html_of_the_report():
    said = github.summary(failing())
    assert said.startswith("### ❌ numprune-export check\n")
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert any(f"`{SPEEDUP}`" in row and "**regressed**" in row for row in rows)
    assert "<b>" not in github.summary(refused())
    assert github.summary(passing()).startswith("### ✅")


def test_json_says_all_of_it():
    content = json.loads(as_json.render(failing()), parse_constant=lambda word: pytest.fail(word))
    assert (content["format_version"], content["passed"], content["comparable"]) == (1, False, True)
    by_name = {finding["name"]: finding for finding in content["findings"]}
    assert by_name[SPEEDUP]["status"] == "regressed"
    assert by_name[SPEEDUP]["failed"] is True
    assert by_name[SPEEDUP]["worse_by"] == pytest.approx(1 - 1.1 / 1.4105, rel=1e-3)
    assert by_name["quality.perplexity.onnx"]["report"] == "NaN"
    content = json.loads(as_json.render(refused()))
    assert (content["passed"], content["comparable"]) == (False, False)
    assert content["refused"][0]["what"] == "cpu"


def test_text_tells_values_that_are_too_long_for_a_column_below():
    def having(shape):
        return BASELINE.model_copy(update={"shapes": {"artifact.onnx.pruned.inputs.a": shape}})

    long = ", ".join(f"float[batch, {heads}, capacity, 64]" for heads in range(9))
    verdict = judge(having("int64[batch, sequence]"), having(long), Gate(), Mode())
    lines = text.render(verdict).splitlines()
    assert max(map(len, lines)) <= 100
    assert "    report: int64[batch, sequence]" in lines
    assert "float[batch, 8, capacity, 64]" in " ".join(line.strip() for line in lines)
