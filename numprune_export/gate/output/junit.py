"""Render a verdict as JUnit XML, using the subset that GitHub, GitLab and Jenkins support."""

from __future__ import annotations

from xml.etree import ElementTree

from numprune_export.gate.output.text import allowed_of, change_of
from numprune_export.gate.verdict import Finding, Verdict

SUITE = "numprune-export check"
COMPARABLE = "the reports are comparable"


def render(verdict: Verdict) -> str:
    """One test case per metric, shape and limit, and one for comparability."""
    suite = ElementTree.Element("testsuite", name=SUITE)
    case = ElementTree.SubElement(suite, "testcase", classname="gate", name=COMPARABLE, time="0")
    if verdict.refused:
        reasons = [_clean(str(difference)) for difference in verdict.refused]
        _failure(case, "incomparable", _clean(verdict.summary), "\n".join(reasons))
    for finding in verdict.findings:
        _case(suite, finding)
    notes = [*map(str, verdict.overruled), *verdict.notes]
    if notes:
        ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(notes))
    counts = {
        "tests": str(len(suite.findall("testcase"))),
        "failures": str(len(suite.findall("testcase/failure"))),
        "errors": "0",
        "skipped": str(len(suite.findall("testcase/skipped"))),
        "time": "0",
    }
    suite.attrib.update(counts)
    root = ElementTree.Element("testsuites", name=SUITE)
    root.attrib.update({key: count for key, count in counts.items() if key != "skipped"})
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(suite: ElementTree.Element, finding: Finding) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"gate.{finding.kind}", name=_clean(finding.name), time="0"
    )
    values = _clean(
        f"baseline {finding.formatted('baseline')}, report {finding.formatted('report')}"
    )
    if finding.failed:
        numbers = (
            f"change {change_of(finding)}, allowed {allowed_of(finding)}" if finding.change else ""
        )
        lines = [finding.detail, values, numbers]
        _failure(
            case,
            finding.status,
            f"{finding.status}: {values}",
            _clean("\n".join(filter(None, lines))),
        )
    elif finding.status == "skipped":
        ElementTree.SubElement(case, "skipped", message=_clean(finding.detail))


def _failure(case: ElementTree.Element, kind: str, message: str, text: str) -> None:
    ElementTree.SubElement(case, "failure", type=kind, message=message).text = text


def _clean(text: str) -> str:
    """Replace control characters, which XML does not allow."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )
