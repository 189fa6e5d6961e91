"""A verdict as JUnit XML, in the part of it that GitHub, GitLab and Jenkins all read."""

from __future__ import annotations

from xml.etree import ElementTree

from numprune_export.gate.output.text import allowed_of, change_of
from numprune_export.gate.verdict import Finding, Verdict

SUITE = "numprune-export check"
COMPARABLE = "the reports are comparable"


def render(verdict: Verdict) -> str:
    """One test case per metric, shape and limit; refusing to compare is one failed case."""
    suite = ElementTree.Element("testsuite", name=SUITE)
    case = ElementTree.SubElement(suite, "testcase", classname="gate", name=COMPARABLE, time="0")
    if verdict.refused:
        said = [_clean(str(one)) for one in verdict.refused]
        _failure(case, "incomparable", _clean(verdict.summary), "\n".join(said))
    for one in verdict.findings:
        _case(suite, one)
    said = [*map(str, verdict.overruled), *verdict.notes]
    if said:
        ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(said))
    counts = {
        "tests": str(len(suite.findall("testcase"))),
        "failures": str(len(suite.findall("testcase/failure"))),
        "errors": "0",
        "skipped": str(len(suite.findall("testcase/skipped"))),
        "time": "0",
    }
    suite.attrib.update(counts)
    root = ElementTree.Element("testsuites", name=SUITE)
    root.attrib.update({key: one for key, one in counts.items() if key != "skipped"})
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(suite: ElementTree.Element, one: Finding) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"gate.{one.kind}", name=_clean(one.name), time="0"
    )
    told = _clean(f"baseline {one.said('baseline')}, report {one.said('report')}")
    if one.failed:
        numbers = f"change {change_of(one)}, allowed {allowed_of(one)}" if one.change else ""
        lines = [one.detail, told, numbers]
        _failure(case, one.status, f"{one.status}: {told}", _clean("\n".join(filter(None, lines))))
    elif one.status == "skipped":
        ElementTree.SubElement(case, "skipped", message=_clean(one.detail))


def _failure(case: ElementTree.Element, kind: str, message: str, text: str) -> None:
    ElementTree.SubElement(case, "failure", type=kind, message=message).text = text


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text
    )
