"""Stages that runs have in common: made once whoever comes, linked into each run."""

import multiprocessing
import time
from pathlib import Path

from numprune_export.core.run_folder import RunFolder
from numprune_export.core.shared_folder import SharedFolder
from numprune_export.core.stage import key_of


def make(folder):
    time.sleep(0.3)
    with (folder.parents[1] / "made").open("a") as file:
        file.write("x")
    (folder / "out").write_text("whole")


def _stage(path):
    (Path(path) / "shared").mkdir(exist_ok=True)
    SharedFolder(Path(path) / "shared").stage("work", "place", key_of(1), make)


def test_two_processes_make_a_stage_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_stage, args=(str(tmp_path),)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "made").read_text() == "x"


def test_what_is_told_apart_is_made_apart(tmp_path):
    shared = SharedFolder(tmp_path / "shared")
    write = lambda folder: (folder / "out").write_text("x")  # noqa: E731
    stage = shared.stage("work", "place", key_of(1), write, variant="this GPU")
    other = shared.stage("work", "place", key_of(1), write, variant="that GPU")
    again = shared.stage("work", "place", key_of(1), write, variant="this GPU")
    assert stage.folder != other.folder
    assert (stage.resumed, other.resumed, again.resumed) == (False, False, True)


def test_an_adopted_stage_is_linked_and_found_by_its_key(tmp_path):
    shared = SharedFolder(tmp_path / "shared")

    def fill(folder):
        (folder / "inner").mkdir()
        (folder / "inner" / "out").write_text("whole")

    made = shared.stage("work", "place", key_of(1), fill)
    (tmp_path / "run").mkdir()
    run = RunFolder(tmp_path / "run")
    own = run.adopt("here", made)
    assert (own.key, own.seconds, own.resumed) == (made.key, made.seconds, False)
    assert (own.folder / "inner" / "out").samefile(made.folder / "inner" / "out")
    assert not (own.folder / "stage.json").samefile(made.folder / "stage.json")
    stage = run.find("work", "here", made.key)
    assert (stage.seconds, stage.resumed) == (made.seconds, True)
    assert run.find("work", "here", key_of(2)) is None
