"""Runs that are killed, and runs on a disk that fills up: the end must be that of an undisturbed run."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from campaign_material import SMALL, Material, changes

COMPARED = (
    "config.json",
    "model.onnx",
    "model.onnx.data",
    "model.safetensors",
    "plan.json",
    "tokenizer.json",
)
"""Files that two runs of one recipe have equal, wherever they lie."""
_KNOWN = ("torchinductor_",)
"""Caches of PyTorch in the temporary folder, which it keeps on purpose."""
MB = 1 << 20


@dataclass(frozen=True)
class Trial:
    """A run that was disturbed and then gone on with."""

    how: str
    disturbed: bool
    """False: it ended before the kill, or the disk was large enough."""
    code: int
    """Exit code of the run that went on."""
    differences: tuple[str, ...]
    """Files that are missing, extra, or not those of the undisturbed run."""
    leftovers: tuple[str, ...]
    """In the temporary folder."""
    fault: str = ""
    """Why the disturbed run itself ended wrongly."""

    @property
    def good(self) -> bool:
        return self.code == 0 and not (self.differences or self.leftovers or self.fault)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "good": self.good}


def kills(material: Material, count: int, seed: int, within: float | None) -> Iterator[Trial]:
    """SIGKILL runs at random moments of `within` seconds, and run each to its end.

    Args:
        within: None: the time of an undisturbed run, which is taken.
    """
    if not count:
        return
    whole = files_of(material.run)
    seconds = _seconds(material) if within is None else within
    for number in range(count):
        place = _fresh(material.folder / "killed")
        moment = Random(f"{seed}-kill-{number}").uniform(0, seconds)
        with _start(place) as process:
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
        killed = process.returncode == -signal.SIGKILL
        yield _gone_on(
            f"SIGKILL after {moment:.1f} of {seconds:.1f} s", place, whole, disturbed=killed
        )


def disks(material: Material) -> Iterator[Trial]:
    """Runs on a tmpfs of a part of the size that they need; it grows before they go on.

    Raises:
        CalledProcessError: this user cannot mount a tmpfs; see `can_mount`.
    """
    whole = files_of(material.run)
    needed = sum(path.stat().st_size for path in material.run.rglob("*") if path.is_file())
    for part in (0.1, 0.5, 0.8, 0.95):
        size = int(part * needed)
        place = _fresh(material.folder / "disk")
        with _tmpfs(place / "out", size):
            process = _start(place)
            _, error = process.communicate()
            fault = ""
            if process.returncode not in (0, 6) or "Traceback" in error:
                fault = f"exit code {process.returncode}: {error.strip().splitlines()[-1:]}"
            _mount("-o", f"remount,size={2 * needed + MB}", place / "out")
            how = f"a disk of {part:.0%} of the run"
            yield _gone_on(how, place, whole, disturbed=process.returncode != 0, fault=fault)


def can_mount(folder: Path) -> bool:
    """Whether this user can mount a tmpfs."""
    try:
        with _tmpfs(folder / "tmpfs", MB):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        (folder / "tmpfs").rmdir()


def _seconds(material: Material) -> float:
    """Of an undisturbed run; that of the material was the cold start."""
    start = time.monotonic()
    with _start(_fresh(material.folder / "timed")) as process:
        _, error = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the undisturbed run failed: {error}")
    return time.monotonic() - start


def _gone_on(
    how: str, place: Path, whole: Mapping[str, str], *, disturbed: bool, fault: str = ""
) -> Trial:
    with _start(place) as process:
        process.communicate()
    files = files_of(place / "out")
    names = sorted(whole.keys() | files.keys())
    different = tuple(name for name in names if whole.get(name) != files.get(name))
    left = tuple(sorted(p.name for p in (place / "tmp").iterdir() if not p.name.startswith(_KNOWN)))
    return Trial(how, disturbed, process.returncode, different, left, fault)


def files_of(run: Path) -> dict[str, str]:
    """Every file of a run; those in `COMPARED` with their sha256."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file())
    return {path.relative_to(run).as_posix(): _content(path) for path in files}


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.name in COMPARED else "present"


def _fresh(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    return place


def _start(place: Path) -> subprocess.Popen[str]:
    arguments = ["run", "smoke", "--out", str(place / "out"), "--quiet", *changes(SMALL)]
    return subprocess.Popen(
        [sys.executable, "-m", "numprune_export", *arguments],
        env={**os.environ, "TMPDIR": str(place / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def _tmpfs(place: Path, size: int) -> Iterator[None]:
    place.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)
