"""The parts of `gpu_check.py`: each a process of its own with a time limit, each with an outcome."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
NO_DEVICE = 8
"""Exit code of the package and its scripts where the GPU is missing or too small."""
TAIL = 25
"""Lines of a failed part's output that are kept."""
_MARKED = re.compile(r"\bmark\.gpu\b")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Hit|Failed)(:|$)")

_LACKING = re.compile(r"ModuleNotFoundError: No module named '([A-Za-z0-9_]+)")


@dataclass
class Outcome:
    """What became of one part."""

    name: str
    status: Literal["passed", "failed", "skipped"]
    reason: str = ""
    """Why it failed or was skipped, in words."""
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    """The last lines it wrote, where it failed."""


@dataclass(frozen=True)
class Finished:
    code: int | None
    """None: it ran out of time and was ended."""
    out: str
    lines: list[str]
    """Standard output and error, as they came."""
    seconds: float


def environment(work: Path) -> dict[str, str]:
    """A plain checkout's: its own folders first on the path, no network, no spinning threads, and
    compiled kernels in `work`: a process that is ended can leave half of one behind."""
    inherited = os.environ.get("PYTHONPATH")
    path = [str(ROOT), str(ROOT / "exporters"), *([inherited] if inherited else [])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TRITON_CACHE_DIR": str(work / "triton"),
    }


def python(arguments: Sequence[str], *, limit_s: float, log: Path) -> Finished:
    """Run Python in the checkout; it and all it started are ended after `limit_s`."""
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment(log.parent),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=limit_s)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
            code = None
    said = log.read_text(encoding="utf-8", errors="replace")
    return Finished(code, out, [*out.splitlines(), *said.splitlines()], time.monotonic() - started)


def failure(name: str, done: Finished, limit_s: float) -> Outcome:
    """The outcome of a process that did not end well; no room on the GPU is no failure."""
    if done.code is None:
        reason = f"not done after {limit_s:.0f} s"
    elif done.code < 0:
        reason = f"ended by signal {-done.code} ({signal.Signals(-done.code).name})"
    else:
        reason = _last_words(done.lines) or f"exit code {done.code}"
    if done.code == NO_DEVICE:
        return Outcome(name, "skipped", reason, done.seconds)
    return Outcome(name, "failed", reason, done.seconds, output=done.lines[-TAIL:])


def _last_words(lines: Sequence[str]) -> str:
    """The line that says what went wrong: the package's own, else an exception's, else the last."""
    said = [line.strip() for line in lines if line.strip()]
    own = [line for line in said if line.startswith("error: ")]
    raised = [line for line in said if _EXCEPTION.match(line)]
    return (own or raised or said or [""])[-1]


def look(work: Path, limit_s: float) -> tuple[Outcome, dict[str, Any]]:
    """What this machine has (`gpu_machine.py`)."""
    done = python(["benchmarks/gpu_machine.py"], limit_s=limit_s, log=work / "machine.log")
    if done.code != 0:
        return failure("look", done, limit_s), {}
    machine: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return Outcome("look", "passed", seconds=done.seconds), machine


def gpu_tests(
    work: Path, limit_s: float, missing: Sequence[str] = (), under: Path = ROOT / "tests"
) -> Outcome:
    """Every test that is marked `gpu`, file by file: one that hangs or crashes takes no other along."""
    started = time.monotonic()
    files = sorted(
        path
        for path in under.rglob("test_*.py")
        if _MARKED.search(path.read_text(encoding="utf-8"))
    )
    counted: dict[str, Any] = {"tests": 0, "passed": 0, "failed": {}, "skipped": {}}
    output: list[str] = []
    for index, path in enumerate(files):
        left = (limit_s - (time.monotonic() - started)) / (len(files) - index)
        done, counts = _test_file(work, path, max(60.0, left), missing)
        counted["tests"] += counts["tests"]
        counted["passed"] += counts["passed"]
        counted["failed"] |= counts["failed"]
        counted["skipped"] |= counts["skipped"]
        output += done.lines[-TAIL:] if counts["failed"] else []
    seconds = time.monotonic() - started
    if counted["failed"]:
        reason = f"{len(counted['failed'])} failed"
        return Outcome("tests", "failed", reason, seconds, counted, output)
    if not counted["passed"]:
        return Outcome("tests", "skipped", "every test skipped itself", seconds, counted)
    return Outcome("tests", "passed", "", seconds, counted)


def _test_file(
    work: Path, path: Path, limit_s: float, missing: Sequence[str]
) -> tuple[Finished, dict[str, Any]]:
    """The marked tests of one file. One that gave no results counts as a failed test, unless it cannot
    be imported for want of a package that this machine is known to lack."""
    results = work / f"{path.stem}.xml"
    done = python(
        ["-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={results}",
         str(path.relative_to(ROOT))],
        limit_s=limit_s,
        log=work / f"{path.stem}.log",
    )  # fmt: skip
    lacking = next((match for line in done.lines if (match := _LACKING.search(line))), None)
    if lacking is not None and lacking[1] in missing:
        reason = f"needs `{lacking[1]}`, which is not installed"
        return done, {"tests": 1, "passed": 0, "failed": {}, "skipped": {path.name: reason}}
    if done.code is not None and results.exists():
        return done, junit(results)
    why = failure(path.name, done, limit_s).reason
    return done, {"tests": 1, "passed": 0, "failed": {path.name: why}, "skipped": {}}


def junit(path: Path) -> dict[str, Any]:
    """Counts, and what failed or was skipped with its reason, of a JUnit XML file."""
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        for kind, group in (("failure", failed), ("error", failed), ("skipped", skipped)):
            told = case.find(kind)
            if told is not None:
                group[name] = (told.get("message") or "no message").splitlines()[0]
    passed = len(cases) - len(failed) - len(skipped)
    return {"tests": len(cases), "passed": passed, "failed": failed, "skipped": skipped}


def recipe(
    work: Path,
    limit_s: float,
    out: Path,
    *,
    name: str,
    targets: Sequence[str],
    changes: Sequence[str],
) -> Outcome:
    """A shipped recipe from model to report, on these targets; its report is copied to `out`."""
    folder = work / name
    arguments = ["-m", "numprune_export", "run", name, "--out", str(folder)]
    for target in targets:
        arguments += ["--target", target]
    for change in changes:
        arguments += ["--set", change]
    done = python(arguments, limit_s=limit_s, log=work / f"{name}.log")
    if done.code != 0:
        return failure(f"recipe {name}", done, limit_s)
    for suffix in ("json", "md"):
        (out / f"{name}.{suffix}").write_bytes((folder / f"report.{suffix}").read_bytes())
    summary = json.loads((folder / "report.json").read_text(encoding="utf-8"))["summary"]
    details = {"targets": list(targets), "changes": list(changes), "summary": summary}
    return Outcome(f"recipe {name}", "passed", "", done.seconds, details)


def pruning(work: Path, limit_s: float, out: Path, options: Sequence[str]) -> Outcome:
    """Moments, gradients, score and repair of a few streamed blocks (`gpu_pruning.py`), step by step
    into `out`; what was done before a failure is kept."""
    result = out / "gpu-pruning.json"
    result.unlink(missing_ok=True)
    arguments = ["benchmarks/gpu_pruning.py", str(result), *options]
    done = python(arguments, limit_s=limit_s, log=work / "pruning.log")
    details = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    if done.code == 0:
        return Outcome("pruning", "passed", "", done.seconds, details)
    outcome = failure("pruning", done, limit_s)
    outcome.details = details
    return outcome


def speed(work: Path, limit_s: float, *, row: str, options: Sequence[str]) -> Outcome:
    """Speed and memory of one row (`gpu_speed.py`); what was measured before a failure is kept."""
    result = work / f"speed-{row}.json"
    minutes = max(0.2, 0.6 * limit_s / 60)  # the last case that begins must also end
    done = python(
        ["benchmarks/gpu_speed.py", row, str(result), "--minutes", f"{minutes:.2f}", *options],
        limit_s=limit_s,
        log=work / f"speed-{row}.log",
    )
    details = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    if done.code == 0:
        return Outcome(f"speed {row}", "passed", "", done.seconds, details)
    if done.code is None and details.get("cases"):
        said = f"stopped after {limit_s:.0f} s; what was measured until then stands"
        return Outcome(f"speed {row}", "passed", said, done.seconds, details)
    outcome = failure(f"speed {row}", done, limit_s)
    outcome.details = details
    return outcome
