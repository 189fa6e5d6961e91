"""The timing cache's file: whole or refused, and replaced in one step."""

import pytest

from numprune_export.core.errors import InputError, OutputError
from numprune_exporters.trt.build import timing_cache

# Deprecated in TensorRT-RTX, where it does nothing; the calls are those of TensorRT.
pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")


@pytest.fixture
def config(kit):
    builder = kit.builder()
    yield builder.create_builder_config()
    del builder


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "timing.cache"
    for body in (b"kernel took 3 us", b"", b"\x00\n" * 1000):
        timing_cache.write(path, body)
        assert timing_cache.read(path) == body
    assert [file.name for file in tmp_path.iterdir()] == ["timing.cache"]


def test_no_file_is_an_empty_cache(tmp_path):
    assert timing_cache.read(tmp_path / "timing.cache") == b""


@pytest.mark.parametrize("where", [0, 36, 60, -1])
def test_any_changed_byte_is_noticed(kit, config, tmp_path, where):
    path = tmp_path / "timing.cache"
    timing_cache.write(path, b"kernel took 3 us")
    content = bytearray(path.read_bytes())
    content[where] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"timing\.cache` cannot be used") as caught:
        timing_cache.attach(kit, config, path)
    assert "delete it" in caught.value.hint


def test_half_a_file_is_noticed(tmp_path):
    path = tmp_path / "timing.cache"
    timing_cache.write(path, b"kernel took 3 us")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="it is damaged"):
        timing_cache.read(path)


def test_file_that_only_the_library_can_judge_is_judged_by_it(kit, config, tmp_path):
    path = tmp_path / "foreign.cache"
    path.write_bytes(b"not a timing cache" * 20)
    with pytest.raises(InputError, match=r"TensorRT-RTX 1\.7\.1\.116 refuses it"):
        timing_cache.attach(kit, config, path)


def test_new_cache_is_attached_and_written_back(kit, config, tmp_path):
    path = tmp_path / "timing.cache"
    timing_cache.attach(kit, config, path)
    timing_cache.save(config, path)
    assert timing_cache.read(path) == bytes(memoryview(config.get_timing_cache().serialize()))
    assert timing_cache.read(path)


def test_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write the timing cache"):
        timing_cache.write(tmp_path / "missing/timing.cache", b"x")


def test_folder_instead_of_a_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot read the timing cache"):
        timing_cache.read(tmp_path)
