"""Room on the disk: a full one, and a limit of file sizes, are named."""

import errno
import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from numprune_export.core.disk_space import full_disk_named, require_space, temporary_folder
from numprune_export.core.errors import OutputError


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_of_a_full_disk_the_one_is_named_that_was_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(OutputError, match=f"`{tmp_path}`") as raised, temporary_folder():
        full()
    assert "TMPDIR" in raised.value.hint
    with pytest.raises(OutputError, match="`/elsewhere`"), full_disk_named(tmp_path / "run"):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/file")
    room = {tmp_path: 0, tmp_path / "run": 10**9}
    monkeypatch.setattr("numprune_export.core.disk_space._free", room.__getitem__)
    with pytest.raises(OutputError, match=f"`{tmp_path}`"), full_disk_named(tmp_path / "run"):
        full()
    room[tmp_path / "run"] = 0
    with pytest.raises(OutputError, match=f"`{tmp_path}/run`"), full_disk_named(tmp_path / "run"):
        full()


@contextmanager
def largest_file(size_bytes):
    """No file of this process may be larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_limit_of_file_sizes_is_named(tmp_path):
    def plainly():
        with (tmp_path / "file").open("wb", buffering=0) as file:
            for _ in range(3):
                file.write(b"x" * 5000)

    def by_safetensors():
        save_file({"weight": torch.zeros(9999)}, tmp_path / "weights.safetensors")

    for write in (plainly, by_safetensors):
        with (
            pytest.raises(OutputError, match=f"a file in `{tmp_path}`") as raised,
            full_disk_named(tmp_path),
            largest_file(8000),
        ):
            write()
        assert "ulimit -f" in raised.value.hint


def test_too_little_space_is_said_before_the_work(tmp_path):
    require_space(tmp_path / "not" / "there", 1)
    with pytest.raises(OutputError, match="are free"):
        require_space(tmp_path / "not" / "there", 10**18)
