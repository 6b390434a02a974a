"""Reading a store never needs writing: read-only files and folders, and full disks. Runs whose store fills up."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rlm
from rlm.cli.main import main
from rlm.core.messages import Request
from rlm.runtime.journaling import STORES
from rlm.store.migrations import NoStoreError
from rlm.testing.scripted import ScriptedModel

SIZE_KB = 600


def mount(*arguments: str) -> None:
    if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SIZE_KB}k", "tmpfs", str(disk))
    yield disk
    close_stores()
    while subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False).returncode == 0:
        pass


def close_stores() -> None:
    """As the end of a process does."""
    asyncio.run(STORES.aclose())


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def script(request: Request) -> str:
    turn = sum(message.role == "assistant" for message in request.messages)
    return "```repl\nprint(40 + 2)\n```" if turn == 0 else "FINAL(the answer)"


def record(place: Path) -> str:
    with rlm.RLM(ScriptedModel(script), store=place) as engine:
        return engine.run("q", "context").run_id


def leave(place: Path, run: str, files: str) -> None:
    """Leaves the files of a process that was killed: all in the database, in its log, or in a tail."""
    kept = {path: path.read_bytes() for path in place.parent.iterdir()}
    if files != "tail":
        STORES.open(place).runs()
        kept = {path: path.read_bytes() for path in place.parent.iterdir() if "-shm" not in path.name}
    close_stores()
    if files != "database":
        for path in place.parent.iterdir():
            path.unlink()
        for path, data in kept.items():
            path.write_bytes(data)
    del run


def make_folder_read_only(disk: Path, _: Path) -> None:
    mount("-o", "remount,ro", str(disk))


def make_file_read_only(_: Path, place: Path) -> None:
    mount("--bind", str(place), str(place))
    mount("-o", "remount,ro,bind", str(place))


def fill_disk(disk: Path, _: Path) -> None:
    fill(disk)


@pytest.mark.parametrize("files", ["database", "log", "tail"])
@pytest.mark.parametrize("forbid", [make_folder_read_only, make_file_read_only, fill_disk])
def test_reading_needs_no_writing(
    disk: Path, forbid: Callable[[Path, Path], None], files: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place = disk / "runs.db"
    run = record(place)
    leave(place, run, files)
    forbid(disk, place)
    for command in (["runs"], ["show"], ["export"], ["export", "--format", "jsonl"], ["replay"]):
        assert main([*command, "--store", str(place)]) == 0, (command, capfd.readouterr().err)
        shown = capfd.readouterr()
        assert run in shown.out + shown.err
    with rlm.open_store(place) as store:
        assert store.result().answer == "the answer"
        assert [info.id for info in store.runs()] == [run]
    if forbid is not fill_disk:
        with pytest.raises(rlm.StoreError):
            rlm.open_store(place).delete(run)


def test_store_that_becomes_writable_is_written_again(disk: Path) -> None:
    place = disk / "runs.db"
    run = record(place)
    close_stores()
    mount("-o", "remount,ro", str(disk))
    assert rlm.open_store(place).runs()
    with rlm.RLM(ScriptedModel(script), store=place) as engine, pytest.raises(rlm.StoreError):
        engine.run("q", "context")
    mount("-o", "remount,rw", str(disk))
    other = record(place)
    assert {info.id for info in rlm.open_store(place).runs()} == {run, other}


@pytest.mark.parametrize("command", ["runs", "show", "export", "replay", "resume"])
def test_looking_creates_no_file(tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str) -> None:
    place = tmp_path / "folder" / "typo.db"
    assert main([command, "--store", str(place)]) != 0
    assert f"there is no store {place}" in capfd.readouterr().err
    with pytest.raises(NoStoreError):
        rlm.open_store(place)
    assert list(tmp_path.iterdir()) == []


def test_missing_default_store_has_no_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLM_STORE", str(tmp_path / "runs.db"))
    assert main(["runs"]) == 0
    assert "no runs" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def filling(disk: Path, turn_of_filling: int) -> Callable[[Request], str]:
    """A root of many turns, during one of which the disk fills up."""

    def answer(request: Request) -> str:
        turn = 1 + sum(message.role == "assistant" for message in request.messages)
        if turn == turn_of_filling:
            fill(disk)
        return f"```repl\nprint({turn}, 'x' * 9000)\n```" if turn < 8 else "FINAL(the answer)"

    return answer


def test_full_default_store_warns_and_run_continues(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RLM_STORE", str(disk / "runs.db"))
    with rlm.RLM(ScriptedModel(filling(disk, 3))) as engine:
        assert engine.run("q", "context").answer == "the answer"
        assert not engine.can_resume
    assert caplog.text.count("is not stored, and continues") == 1


def test_full_named_store_ends_run_resumably(disk: Path) -> None:
    place = disk / "runs.db"
    with rlm.RLM(ScriptedModel(filling(disk, 3)), store=place) as engine, pytest.raises(rlm.StoreError, match="room"):
        engine.run("q", "context")
    assert [info.status for info in rlm.open_store(place).runs()] == [None]
    (disk / "filler").unlink()
    close_stores()
    again = ScriptedModel(filling(disk, 0))
    with rlm.RLM(again, store=place) as engine:
        assert engine.resume("last").answer == "the answer"
    assert len(again.requests) < 8, "recorded turns are not asked again"
