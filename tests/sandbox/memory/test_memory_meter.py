"""Free memory of the machine, and of control groups of both versions around this process."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rlm.sandbox.memory.meter import Memory, MemoryMeter, own_memory_mb

MB = 1024 * 1024
MEMINFO = "MemTotal: 8192000 kB\nMemFree: 99 kB\nMemAvailable: 4096000 kB\n"


def write(root: Path, files: Mapping[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))


def machine(root: Path, files: Mapping[str, object], groups: str = "0::/a/b\n") -> Path:
    write(root, {"proc/meminfo": MEMINFO, "proc/self/cgroup": groups, **files})
    return root


def group(path: str, limit: object, usage_mb: int, cached_mb: int = 0) -> dict[str, object]:
    folder = f"sys/fs/cgroup{path}"
    stat = f"anon 5\ninactive_file {cached_mb * MB}\nactive_file 7\n"
    files = {"memory.max": limit, "memory.current": usage_mb * MB, "memory.stat": stat}
    return {f"{folder}/{name}": content for name, content in files.items()}


def test_machine_memory_without_groups(tmp_path: Path) -> None:
    assert MemoryMeter(machine(tmp_path, {})).read() == Memory(4000, 8000)


def test_tightest_group_counts_with_droppable_cache(tmp_path: Path) -> None:
    files = {**group("/a/b", "max", 300), **group("/a", 1000 * MB, 900, 50), **group("", 3000 * MB, 1000)}
    assert MemoryMeter(machine(tmp_path, files)).read() == Memory(150, 1000)


def test_group_larger_than_machine_is_ignored(tmp_path: Path) -> None:
    assert MemoryMeter(machine(tmp_path, group("/a", 7000 * MB, 10))).read() == Memory(4000, 8000)


def test_group_over_limit_has_no_free_memory(tmp_path: Path) -> None:
    assert MemoryMeter(machine(tmp_path, group("/a", 100 * MB, 120))).read() == Memory(0, 100)


def test_version_one_groups(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory/inner"
    root = machine(
        tmp_path,
        {
            f"{folder}/memory.limit_in_bytes": 512 * MB,
            f"{folder}/memory.usage_in_bytes": 500 * MB,
            f"{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {20 * MB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 2**63 - 4096,
        },
        "4:cpu,memory:/inner\n3:pids:/x\n0::/\n",
    )
    assert MemoryMeter(root).read() == Memory(32, 512)


def test_vanished_group_is_ignored(tmp_path: Path) -> None:
    meter = MemoryMeter(machine(tmp_path, group("/a", 100 * MB, 90)))
    (tmp_path / "sys/fs/cgroup/a/memory.current").unlink()
    assert meter.read() == Memory(4000, 8000)


def test_unknown_memory_is_none(tmp_path: Path) -> None:
    assert MemoryMeter(tmp_path).read() is None


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_real_machine_and_process_memory() -> None:
    memory = MemoryMeter().read()
    assert memory is not None
    assert 0 <= memory.free <= memory.total
    before = own_memory_mb(os.getpid())
    held = b"x" * (200 * MB)
    assert 150 < own_memory_mb(os.getpid()) - before < 250
    assert len(held) == 200 * MB
    assert own_memory_mb(os.getpid(), 1 << 40) > 0
    assert own_memory_mb(2**22 + 1) == 0  # no process has that number


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_shared_anonymous_pages_count_as_own() -> None:
    before = own_memory_mb(os.getpid())
    with mmap.mmap(-1, 200 << 20) as pages:
        for at in range(0, len(pages), 4096):
            pages[at] = 1
        assert 150 < own_memory_mb(os.getpid()) - before < 250
        assert own_memory_mb(os.getpid(), 200 << 20) - before < 50
