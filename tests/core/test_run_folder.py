"""The run folder: whole or not at all, one owner, nothing foreign touched."""

import errno
import json
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from numprune_export.core.errors import InputError, OutputError
from numprune_export.core.partial_files import scratch_folder
from numprune_export.core.run_folder import LOG, RECIPE, open_folder
from numprune_export.core.stage import key_of
from numprune_export.core.stage_record import STAGE


def test_a_finished_stage_is_found_and_not_made_again(tmp_path):
    made = []

    def make(folder):
        made.append(1)
        (folder / "a").write_text("x")

    with open_folder(tmp_path / "run") as run:
        first = run.stage("s", "s", "key", make)
        again = run.stage("s", "s", "key", make)
    assert made == [1]
    assert (first.resumed, again.resumed) == (False, True)
    assert again.seconds == first.seconds
    assert (again.folder / "a").read_text() == "x"


def test_another_key_makes_the_stage_anew_and_leaves_nothing_of_the_old(tmp_path):
    with open_folder(tmp_path / "run") as run:
        run.stage("s", "a/s", "one", lambda folder: (folder / "old").write_text("x"))
        stage = run.stage("s", "a/s", "two", lambda folder: (folder / "new").write_text("x"))
    assert {path.name for path in stage.folder.iterdir()} == {"new", STAGE}


def test_a_stage_that_fails_leaves_no_trace_and_keeps_the_earlier_one(tmp_path):
    def fail(folder):
        (folder / "half").write_text("x")
        raise InputError("no", hint="no")

    with open_folder(tmp_path / "run") as run:
        run.stage("s", "s", "one", lambda folder: (folder / "old").write_text("x"))
        with pytest.raises(InputError):
            run.stage("s", "s", "two", fail)
        stage = run.stage("s", "s", "one", fail)
    assert (stage.folder / "old").exists()
    assert [path.name for path in (tmp_path / "run").glob(".*.partial")] == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"key": "one"}',
        "null",
        '{"key": "one", "seconds": 1}',
        '{"key": "one", "seconds": "1", "files": {}}',
        '{"key": "one", "seconds": null, "files": {}}',
        '{"key": "one", "seconds": true, "files": {}}',
        '{"key": "one", "seconds": NaN, "files": {}}',
        '{"key": "one", "seconds": -1, "files": {}}',
        '{"key": "one", "seconds": 1' + "0" * 400 + ', "files": {}}',
        '{"key": ["one"], "seconds": 1, "files": {}}',
        '{"key": "one", "seconds": 1, "files": []}',
        '{"key": "one", "seconds": 1, "files": {"a": 3}}',
        '{"key": "one", "seconds": 1, "files": {"a": ["3", "0"]}}',
        "[" * 100_000,
    ],
)
def test_a_stage_without_a_whole_marker_is_made_again(tmp_path, content):
    with open_folder(tmp_path / "run") as run:
        stage = run.stage("s", "s", "one", lambda folder: None)
        (stage.folder / STAGE).write_text(content)
        assert not run.stage("s", "s", "one", lambda folder: None).resumed


def flip(path):
    path.write_bytes(bytes([path.read_bytes()[0] ^ 64]) + path.read_bytes()[1:])


DAMAGE = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "gone": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["a", "below/b"])
def test_a_stage_whose_files_changed_is_made_again_and_the_log_says_why(tmp_path, damage, name):
    def make(folder):
        (folder / "a").write_text("first")
        (folder / "below").mkdir()
        (folder / "below" / "b").write_text("second")

    with open_folder(tmp_path / "run") as run:
        stage = run.stage("s", "s", "one", make)
        damage(stage.folder / name)
        again = run.stage("s", "s", "one", make)
        assert not again.resumed
        assert run.stage("s", "s", "one", make).resumed
    assert (again.folder / "a").read_text() == "first"
    assert (again.folder / "below" / "b").read_text() == "second"
    assert f"s: recomputed, `s/{name}`" in (tmp_path / "run" / LOG).read_text()


def test_a_file_written_later_and_one_that_is_nobodys_do_not_undo_a_stage(tmp_path):
    with open_folder(tmp_path / "run") as run:
        run.stage("s", "s", "one", lambda folder: (folder / "a").write_text("x"))
        run.write("s/a", "longer")
        run.write("s/b", "new")
        (tmp_path / "run" / "s" / "notes").write_text("mine")
        assert run.stage("s", "s", "one", lambda _: None).resumed
    with open_folder(tmp_path / "run") as run:
        assert run.stage("s", "s", "one", lambda _: None).files == {}
        assert (tmp_path / "run" / "s" / "a").read_text() == "longer"


def test_a_file_that_may_be_edited_is_kept_as_it_is_now(tmp_path):
    def make(folder):
        (folder / "plan").write_text("made")
        (folder / "other").write_text("made")

    with open_folder(tmp_path / "run") as run:
        plan = run.stage("s", "s", "one", make, editable=("plan",)).folder / "plan"
        plan.write_text("edited")
        stage = run.stage("s", "s", "one", make, editable=("plan",))
        assert stage.resumed
        assert stage.files["plan"].bytes == len("edited")
        assert run.stage("s", "s", "one", make).resumed, "what it is now is what is noted"
        flip(plan.parent / "other")
        assert not run.stage("s", "s", "one", make, editable=("plan",)).resumed
    assert plan.read_text() == "made"


def test_every_file_is_on_the_disk_before_its_stage_is_renamed(tmp_path, monkeypatch):
    synced, renamed = set(), []
    monkeypatch.setattr(
        "os.fsync", lambda number: synced.add(Path(f"/proc/self/fd/{number}").readlink())
    )
    rename = Path.rename

    def renaming(path, target):
        renamed.append((path, set(synced)))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renaming)

    def make(folder):
        (folder / "below").mkdir()
        (folder / "below" / "a").write_text("x")

    with open_folder(tmp_path / "run") as run:
        run.stage("s", "s", "one", make)
    ((partial, before),) = renamed
    assert {partial, partial / "below", partial / "below" / "a"} <= before
    assert tmp_path / "run" in synced


def test_ctrl_c_as_the_folder_is_made_leaves_none(tmp_path, monkeypatch):
    made = Path.mkdir

    def interrupted(path, *args, **kwargs):
        made(path, *args, **kwargs)
        raise KeyboardInterrupt

    with open_folder(tmp_path / "run") as run:
        run.stage("first", "first", "key", lambda _: None)
        monkeypatch.setattr(Path, "mkdir", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.stage("s", "s", "key", lambda _: None)
        monkeypatch.undo()
    assert not [entry for entry in (tmp_path / "run").iterdir() if "partial" in entry.name]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    with open_folder(tmp_path / "run") as run:
        partial = tmp_path / "run" / ".s.partial"
        partial.mkdir()
        (partial / "junk").write_text("x")
        stage = run.stage("s", "s", "one", lambda folder: None)
    assert not (stage.folder / "junk").exists()
    assert not partial.exists()


def test_what_a_killed_process_left_of_any_stage_is_cleared_when_the_folder_is_opened(tmp_path):
    with open_folder(tmp_path / "run") as run:
        run.stage("s", "artifacts/onnx/dense", "one", lambda folder: None)
    for name in (".a.partial", "artifacts/onnx/.pruned.partial"):
        (tmp_path / "run" / name / "below").mkdir(parents=True)
    (tmp_path / "run" / ".report.json.partial").write_text("half")
    (tmp_path / "run" / ".mine").write_text("x")
    with open_folder(tmp_path / "run"):
        assert list((tmp_path / "run").rglob("*.partial")) == []
    assert (tmp_path / "run" / ".mine").exists()


def test_a_scratch_folder_is_hidden_beside_and_gone_at_the_end(tmp_path):
    (tmp_path / ".model.partial").mkdir()
    with scratch_folder(tmp_path / ".model.partial", "reload") as scratch:
        assert scratch.parent == tmp_path
        assert fnmatch(scratch.name, ".reload-*.partial")
        (scratch / "a").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [".model.partial"]


def test_a_full_disk_is_said_and_nothing_half_written_stays(tmp_path):
    def fill(folder):
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_folder(tmp_path / "run") as run:
        with pytest.raises(OutputError, match="no space left"):
            run.stage("s", "s", "one", fill)
        assert not (tmp_path / "run" / "s").exists()

        def native(folder):
            raise RuntimeError("writer failed: No space left on device (os error 28)")

        with pytest.raises(OutputError, match="no space left"):
            run.stage("s", "s", "one", native)


def fails_with(code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    with open_folder(tmp_path / "run") as run:
        run.stage("s", "s", "one", lambda folder: None)
        run.write("a.txt", "old")
        monkeypatch.setattr("os.fsync", fails_with(errno.ENOSPC))
        with pytest.raises(OutputError, match="no space left"):
            run.write("a.txt", "new")
        assert (run.path / "a.txt").read_text() == "old"
        assert not list(run.path.glob(".*.partial"))


def test_other_failures_keep_their_own_error(tmp_path):
    def fail(folder):
        raise ZeroDivisionError

    with open_folder(tmp_path / "run") as run, pytest.raises(ZeroDivisionError):
        run.stage("s", "s", "one", fail)


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="not empty"), open_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_or_an_unwritable_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="not a folder"), open_folder(tmp_path / "file"):
        pass
    with pytest.raises(OutputError, match="cannot write"), open_folder(tmp_path / "file" / "run"):
        pass


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    with open_folder(tmp_path / "empty") as run:
        run.stage("s", "s", "one", lambda folder: None)
    assert (tmp_path / "empty" / "s").is_dir()


@pytest.mark.parametrize("there", [True, False])
def test_a_run_that_finished_no_stage_leaves_nothing_behind(tmp_path, there):
    place = tmp_path / "runs" / "new"
    if there:
        place.mkdir(parents=True)

    def fail(folder):
        raise InputError("bad", hint="bad")

    with pytest.raises(InputError), open_folder(place) as run:
        run.write(RECIPE, "x")
        run.log("begun")
        run.stage("s", "s", "one", fail)
    assert sorted(tmp_path.rglob("*")) == ([place.parent, place] if there else [])


def test_a_run_that_finished_a_stage_keeps_it_when_a_later_one_fails(tmp_path):
    with pytest.raises(InputError), open_folder(tmp_path / "run") as run:
        run.write(RECIPE, "x")
        run.stage("s", "s", "one", lambda folder: None)
        raise InputError("bad", hint="bad")
    assert (tmp_path / "run" / "s").is_dir()
    assert (tmp_path / "run" / RECIPE).exists()


OWNER = """
import sys, time
from numprune_export.core.run_folder import open_folder
from pathlib import Path
with open_folder(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_while_the_first_works(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout.readline() == "mine\n"
        with pytest.raises(OutputError, match="another run"), open_folder(tmp_path / "run"):
            pass
    finally:
        first.kill()
        first.communicate()
    with open_folder(tmp_path / "run") as run:  # a killed owner does not hold the folder
        assert run.path.is_dir()


def test_keys_depend_on_every_part_and_not_on_dict_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert len({key_of("a"), key_of("a", 1), key_of("a", 2), key_of(["a"])}) == 4
    assert json.loads(json.dumps(key_of("a"))) == key_of("a")
