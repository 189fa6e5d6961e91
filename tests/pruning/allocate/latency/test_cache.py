"""Latency tables across runs: found only if whole and made for the same thing."""

import json
import time
from pathlib import Path

import pytest

from numprune_export.pruning.allocate.latency import cache
from numprune_export.pruning.allocate.latency.table import LatencyTable

TABLE = LatencyTable({"attention": {1: 0.25, 2: 0.5}, "mlp": {8: 1.5}}, 9.0, 1.0)
KEY = {"device": ["a processor", [], 1], "target": ["onnx", {}, "onnxruntime 1.2"], "shape": [1]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMPRUNE_EXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def the_file(folder):
    (path,) = folder.rglob("*.json")
    return path


def test_a_table_is_found_again_with_its_age(folder):
    assert cache.read(KEY) is None
    assert cache.write(KEY, TABLE) is None
    entry = cache.read(KEY)
    assert entry.table == TABLE
    assert 0 <= entry.age_s < 60
    assert [path.suffix for path in folder.rglob("*") if path.is_file()] == [".json"]
    content = json.loads(the_file(folder).read_text())
    content["measured_at"] -= 7200
    the_file(folder).write_text(json.dumps(content))
    assert cache.read(KEY).age_s == pytest.approx(7200, abs=60)


@pytest.mark.parametrize("name", list(KEY))
def test_another_device_runtime_or_shape_has_another_table(name):
    cache.write(KEY, TABLE)
    assert cache.read({**KEY, name: ["other"]}) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace("0.25", "0.35"),
        lambda text: text.replace("0.25", "NaN"),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"measured_at"', '"when"'),
    ],
    ids=["empty", "cut", "list", "changed", "nan", "format", "age"],
)
def test_a_damaged_file_is_as_good_as_none(folder, spoil):
    cache.write(KEY, TABLE)
    text = the_file(folder).read_text()
    assert spoil(text) != text
    the_file(folder).write_text(spoil(text))
    assert cache.read(KEY) is None
    assert cache.write(KEY, TABLE) is None
    assert cache.read(KEY).table == TABLE


def test_a_file_of_another_key_in_its_place_is_not_believed(folder):
    cache.write(KEY, TABLE)
    mine = the_file(folder)
    other = {**KEY, "shape": [2]}
    cache.write(other, TABLE.at(90.0))
    (theirs,) = (path for path in folder.rglob("*.json") if path != mine)
    theirs.replace(mine)
    assert cache.read(KEY) is None


def test_times_that_are_none_are_not_believed():
    cache.write(KEY, LatencyTable({"mlp": {8: -1.0}}, 9.0, 1.0))
    assert cache.read(KEY) is None


def test_a_folder_that_cannot_be_written_is_told_and_leaves_nothing(folder):
    folder.write_text("a file")
    assert str(folder) in cache.write(KEY, TABLE)
    assert cache.read(KEY) is None


def test_a_clock_that_went_back_makes_no_negative_age(monkeypatch):
    cache.write(KEY, TABLE)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1000)
    assert cache.read(KEY).age_s == 0


def test_the_folder_is_where_the_user_keeps_caches(monkeypatch, tmp_path, folder):
    assert cache.cache_folder() == folder
    monkeypatch.delenv("NUMPRUNE_EXPORT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "numprune-export"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/xdg")
    assert cache.cache_folder() == Path.home() / ".cache" / "numprune-export"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "numprune-export"
