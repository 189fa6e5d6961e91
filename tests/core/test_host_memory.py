"""What a process may take: the machine's free memory, or what its container leaves."""

import pytest

from numprune_export.core import host_memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 64 GiB free, and the files of its container."""
    monkeypatch.setattr(host_memory, "CGROUP", tmp_path)

    class Memory:
        available = 64 * GIB
        total = 96 * GIB

    monkeypatch.setattr(host_memory.psutil, "virtual_memory", Memory)

    def write(**files):
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_in_bytes", "@").replace("_", ".", 1)
            path = path.with_name(path.name.replace("@", "_in_bytes"))
            path.parent.mkdir(exist_ok=True)
            path.write_text(str(content))

    return write


def test_without_a_container_it_is_what_the_machine_has_free(machine):
    assert host_memory.available_bytes() == 64 * GIB
    machine(memory_max="max\n", memory_current=GIB)
    assert host_memory.available_bytes() == 64 * GIB


def test_a_container_leaves_its_limit_less_what_cannot_be_dropped(machine):
    machine(memory_max=8 * GIB, memory_current=5 * GIB)
    assert host_memory.available_bytes() == 3 * GIB
    machine(memory_stat=f"anon {2 * GIB}\ninactive_file {GIB}\nactive_file {GIB}\n")
    assert host_memory.available_bytes() == 5 * GIB


def test_an_older_container_is_read_too(machine):
    machine(memory__memory_limit_in_bytes=4 * GIB, memory__memory_usage_in_bytes=GIB)
    assert host_memory.available_bytes() == 3 * GIB


def test_a_containers_limit_is_known_where_there_is_one(machine):
    assert host_memory.limit_bytes() is None
    machine(memory__memory_limit_in_bytes=2**63 - 4096)
    assert host_memory.limit_bytes() is None
    machine(memory_max=8 * GIB)
    assert host_memory.limit_bytes() == 8 * GIB
