"""Text files as contexts: mapped by the REPL, never copied by the host."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from zygote_kit import AVAILABLE, SMALL, linux_only, run_cell, sandbox_at

from rlm.core.errors import ContextError
from rlm.core.repl_spec import ReplSpec
from rlm.sandbox import text_files
from rlm.sandbox.shared_memory import SharedContext
from rlm.sandbox.text_files import FileContext, TextFiles

pytestmark = linux_only
BEST = AVAILABLE[0] if AVAILABLE else "strict"
LINE = b"plain words and numbers 0123456789 to fill a line of text\n"
LARGE_BYTES = int(os.environ.get("RLM_TEST_FILE_BYTES", "120_000_000"))  # 10_737_418_240 is the size of the issue


def host_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def shared(path: Path, **options: str) -> SharedContext:
    with path.open("r" if options else "rb", **options) as file:  # type: ignore[call-overload]
        return TextFiles().open(file)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large.txt"
    with file.open("wb") as out:
        block = LINE * (1_000_000 // len(LINE))
        for _ in range(LARGE_BYTES // len(block)):
            out.write(block)
    return file


async def test_large_ascii_file_is_mapped_as_str(large: Path) -> None:
    before = host_mb()
    async with sandbox_at(BEST) as sandbox:
        with large.open("rb") as file:
            repl = await sandbox.open(ReplSpec(file, limits=SMALL))
        size = large.stat().st_size
        echo = (await run_cell(repl, "type(context) is str, len(context), context[-5:], context.count('9 to')")).echo
        assert echo == repr((True, size, "text\n", size // len(LINE)))
        assert (await run_cell(repl, "import re; sum(1 for _ in re.finditer('words', context))")).echo == str(
            size // len(LINE)
        )
        assert repl.memory_mb() < 32
    assert host_mb() - before < 100


async def test_huge_file_is_decoded_when_used(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "STR_FILE_BYTES", 1_000_000)
    before = host_mb()
    with large.open("ab") as out:
        out.write("the é end\n".encode())
    async with sandbox_at(BEST) as sandbox:
        with large.open("rb") as file:
            repl = await sandbox.open(ReplSpec(file, limits=SMALL))
        assert (await run_cell(repl, "isinstance(context, str), context[:11]")).echo == "(True, 'plain words')"
        size = large.stat().st_size - 1  # é takes two bytes
        assert (await run_cell(repl, "len(context), context[-10:], context.find('é')")).echo == repr(
            (size, "the é end\n", size - 6)
        )
        code = "import re; pattern = re.compile('é e(n)d')\nmatch = pattern.search(context); match.span(1), match[0]"
        assert (await run_cell(repl, code)).echo == repr(((size - 3, size - 2), "é end"))
        assert (await run_cell(repl, "grep('é end')[0].start > 0")).echo == "True"
        assert (await run_cell(repl, "str(context)")).error == "MemoryError: a copy of this text of " + (
            f"{size + 1:,} bytes does not fit: use slices, find, re.finditer, or iterate over context.splitlines()"
        )
        assert repl.memory_mb() < 64
    assert host_mb() - before < 100


def test_sparse_file_opens_at_once(tmp_path: Path) -> None:
    file = tmp_path / "sparse.txt"
    with file.open("wb") as out:
        out.write(LINE)
        out.truncate(10 << 30)
    context = shared(file)
    assert isinstance(context, FileContext)
    assert context.header.shape == "mapped"
    assert context.blocks is not None
    assert context.blocks.total_chars() == 10 << 30
    assert context.memory_bytes == 0


def test_other_files_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "wide").write_bytes("é".encode() * 100_000)
    assert shared(tmp_path / "wide").header.shape == "str"
    (tmp_path / "latin").write_bytes(b"\xe9" * 100_000)
    assert shared(tmp_path / "latin", encoding="latin-1").header.groups[0].form == 1
    (tmp_path / "small").write_bytes(b"abc")
    assert shared(tmp_path / "small").header.shape == "str"
    (tmp_path / "bad").write_bytes(b"a" * 100_000 + b"\xff")
    with pytest.raises(ContextError, match="bad is not valid utf-8: byte 0xff at offset 100,000"):
        shared(tmp_path / "bad")


def test_open_file_is_shared_once(large: Path) -> None:
    files = TextFiles()
    with large.open("rb") as first, large.open("rb") as second:
        context = files.open(first)
        assert files.open(second) is context
        with large.open("ab") as out:
            out.write(b"x")
        assert files.open(second) is not context


@pytest.mark.parametrize("change", ["cut", "overwritten"])
async def test_changed_file_ends_the_run(large: Path, change: str) -> None:
    async with sandbox_at(BEST) as sandbox:
        with large.open("rb") as file:
            repl = await sandbox.open(ReplSpec(file, limits=SMALL))
        if change == "cut":
            os.truncate(large, 1000)
        else:
            with large.open("r+b") as out:
                out.write(b"other")
        with pytest.raises(ContextError, match=r"large\.txt was changed while a run used it"):
            await run_cell(repl, "context.count('x')")


async def test_growing_file_keeps_its_beginning(large: Path) -> None:
    size = large.stat().st_size
    async with sandbox_at(BEST) as sandbox:
        with large.open("rb") as file:
            repl = await sandbox.open(ReplSpec(file, limits=SMALL))
        with large.open("ab") as out:
            out.write(b"more\n")
        assert (await run_cell(repl, "len(context), context[-5:]")).echo == f"({size}, 'text\\n')"


async def test_repl_cannot_write_to_the_file(large: Path) -> None:
    async with sandbox_at(BEST) as sandbox:
        with large.open("r+b") as file:
            repl = await sandbox.open(ReplSpec(file, limits=SMALL))
        code = "import os\nfor number in range(3, 20):\n    try: print(os.pwrite(number, b'x', 0))\n    except OSError: pass"
        assert (await run_cell(repl, code)).stdout == ""
        assert large.read_bytes()[:5] == LINE[:5]
