"""Contexts shared by all REPLs: any text arrives unchanged, in one copy for the whole machine."""

from __future__ import annotations

import gc
import io
import os
import string
import sys
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zygote_kit import AVAILABLE, SMALL, linux_only, run_cell, run_once, sandbox_at

from rlm.core.errors import ContextError
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.sandbox.context_pool import MAX_RETAINED, MIN_SHARED_BYTES, ContextPool
from rlm.sandbox.shared_memory import SharedContext, share_context
from rlm.sandbox.worker.boot import shared_text

pytestmark = linux_only
BEST = AVAILABLE[0] if AVAILABLE else "strict"
LONG = 2 * MIN_SHARED_BYTES
TEXTS = {
    "ascii": "plain words and numbers 123\n" * 5000,
    "latin": "café crème\r\n" * 9000,
    "two bytes": "Жук и €\n" * 9000,
    "four bytes": "smile 😀\n" * 9000,
    "lone surrogates": "left \ud800 right \udfff " * 9000,
    "surrogates beside emoji": "\ud83d 😀 \ude00" * 9000,
    "NUL": "a\0b\0\0" * 20_000,
    "line ends": "a\rb\r\nc\n\x0b\x0c\x1c\x85\u2028" * 10_000,
    "byte order mark": "\ufeff" + "a" * LONG,
    "one wide character at the end": "a" * LONG + "😀",
    "one wide character at the start": "é" + "a" * LONG,
    "a page exactly": "a" * (4096 * 32),
    "a page but one": "a" * (4096 * 32 - 1),
}
OPERATIONS = [
    "len(context)", "context[:50], context[-50:], context[1000:60000:997]", "hash(context) == hash(context[:])",
    "context.count('a'), context.find('zz'), context.rfind('a')", "len(context.split()), context.split()[:3]",
    "context.splitlines()[5:8]", "context.replace('a', 'bb')[:30]", "context.upper()[:30], context.title()[:9]",
    "__import__('re').findall('[a-z]+', context)[:5]", "[m.start() for m in __import__('re').finditer('a', context)][-1:]",
    "__import__('collections').Counter(context).most_common(3)", "context.encode('utf-8', 'surrogatepass')[:40]",
    "__import__('json').loads(__import__('json').dumps(context)) == context",
    "__import__('pickle').loads(__import__('pickle').dumps(context)) == context", "context == context[:]",
    "context + 'x' == context",
    "type(context) is str", "isinstance(context, str)", "max(context), min(context)", "context * 2 == context + context",
    "context.isascii()", "'%s' % context == context", "f'{context}' == context", "{context: 1}[context[:] + '']",
    "sum(map(ord, context[:1000]))", "context.startswith(context[:10])", "context.partition('a')[1]", "list(context[:5])",
    "__import__('io').StringIO(context, newline='').read() == context", "__import__('textwrap').shorten(context[:200], 20)",
    "__import__('hashlib').sha256(context.encode('utf-8', 'surrogatepass')).hexdigest()", "context.strip()[:5]",
    "__import__('string').Template(context[:50]).template[:9]", "context.translate({97: 'A'})[:20]", "repr(context)[:60]",
]  # fmt: skip


def reopened(context: SharedContext) -> Any:
    return shared_text.open_context(context.fileno(), asdict(context.header))


def test_this_interpreter_can_map_text() -> None:
    """If this fails, text is decoded in the ordinary way: correct, but with a copy for each REPL."""
    assert sys.implementation.name != "cpython" or shared_text.supports_mapped_text()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_round_trips(text: str) -> None:
    got = reopened(share_context(text))
    assert got == text
    assert type(got) is str
    assert len(got) == len(text)
    assert hash(got) == hash(text)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_operations_agree_between_repl_and_host(text: str) -> None:
    got, plain = reopened(share_context(text)), text
    for operation in OPERATIONS:
        assert eval(operation, {"context": got}) == eval(operation, {"context": plain}), operation


@given(st.lists(st.text(st.characters(codec=None), max_size=40), max_size=30), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_any_list_of_texts_round_trips(texts: list[str], copies: int) -> None:
    value = texts * copies or [""]
    got = reopened(share_context(value))
    assert got == value
    assert [hash(text) for text in got] == [hash(text) for text in value]


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=30), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_any_dict_of_texts_round_trips(value: dict[str, str]) -> None:
    got = reopened(share_context(value))
    assert got == value
    assert list(got) == list(value)
    assert all(got[key] == value[key] for key in value)


def test_other_data_keeps_its_types() -> None:
    value = {"rows": [[1, 2.5, None, True]] * 9, "text": "é", "set": {1, 2}, "bytes": b"\xff\0"}
    assert reopened(share_context(value)) == value
    assert reopened(share_context(b"\xff\0" * 50_000)) == b"\xff\0" * 50_000
    assert reopened(share_context([])) == []


def test_decoding_gives_same_text_as_mapping() -> None:
    """The fallback for interpreters with another string layout."""
    texts = [text[:500] for text in TEXTS.values()]
    context = share_context(texts)
    assert shared_text.decode_strings(context.fileno(), asdict(context.header)) == texts


def test_shared_context_is_immutable() -> None:
    context = share_context(TEXTS["ascii"])
    with pytest.raises(OSError):
        os.write(context.fileno(), b"changed")
    with pytest.raises(OSError):
        os.ftruncate(context.fileno(), 10)


def test_closed_context_raises() -> None:
    context = share_context("x")
    context.close()
    context.close()
    with pytest.raises(ContextError, match="closed"):
        context.fileno()


def test_unplain_context_is_rejected() -> None:
    with pytest.raises(ContextError, match="plain data"):
        share_context({"key": object()})


ENCODED = {
    "utf-8": TEXTS["four bytes"], "utf-8-sig": TEXTS["latin"], "utf-16": TEXTS["two bytes"], "utf-32": TEXTS["four bytes"],
    "latin-1": TEXTS["latin"], "cp1252": "€uro “quotes”\r\n" * 9000, "shift_jis": "日本語\n" * 9000, "ascii": TEXTS["NUL"],
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODED)
def test_files_are_decoded_exactly(encoding: str, tmp_path: Path) -> None:
    text = ENCODED[encoding] * 40  # several pieces, cut within characters
    (tmp_path / "input").write_bytes(text.encode(encoding))
    with (tmp_path / "input").open("rb") as file:
        assert reopened(share_context(file, encoding=encoding)) == text
    with (tmp_path / "input").open(encoding=encoding) as file:  # a text file's own line ends are not translated
        assert reopened(share_context(file, encoding=encoding)) == text


def test_byte_order_mark_follows_encoding(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"\xef\xbb\xbfabc")
    with (tmp_path / "input").open("rb") as file:
        assert reopened(share_context(file)) == "\ufeffabc"
        assert reopened(share_context(file, encoding="utf-8-sig")) == "abc"


@pytest.mark.parametrize("offset", [0, 1, 70_000, 1 << 20, (1 << 20) + 1, 3_000_000])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80"])
def test_encoding_error_names_its_offset(offset: int, bad: bytes, tmp_path: Path) -> None:
    data = ("é" * (offset // 2) + "a" * (offset % 2)).encode() + bad + b"more" * 10
    (tmp_path / "broken.txt").write_bytes(data)
    with (tmp_path / "broken.txt").open("rb") as file, pytest.raises(ContextError) as caught:
        share_context(file)
    assert f"broken.txt is not valid utf-8: byte 0x{bad[:1].hex()} at offset {offset:,} " in str(caught.value)


def test_truncated_character_is_error(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes("aé".encode()[:-1])
    with (tmp_path / "cut").open("rb") as file, pytest.raises(ContextError, match="offset 1 "):
        share_context(file)
    with (tmp_path / "cut").open("rb") as file, pytest.raises(ContextError, match="got 'klingon'"):
        share_context(file, encoding="klingon")


def test_pipe_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as out:
        out.write("é line\r\n".encode() * 1000)
    with os.fdopen(reader, "rb") as file:
        assert reopened(share_context(file, name="standard input")) == "é line\r\n" * 1000


def test_in_memory_files_are_read() -> None:
    assert reopened(share_context(io.StringIO("é\r\n", newline=""))) == "é\r\n"
    assert reopened(share_context(io.BytesIO("é\r\n".encode()))) == "é\r\n"
    with pytest.raises(ContextError):
        share_context(object())


@pytest.mark.parametrize("level", [*AVAILABLE, "unconfined"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_repl_receives_text(level: str, text: str) -> None:
    if level != BEST and text is not TEXTS["lone surrogates"]:
        pytest.skip("one text is enough at the lower levels")
    async with sandbox_at(level) as sandbox:
        repl = await sandbox.open(ReplSpec(text, limits=SMALL))
        code = (
            "import zlib\ntype(context) is str, len(context), zlib.crc32(context.encode('utf-32-le', 'surrogatepass'))"
        )
        checksum = zlib.crc32(text.encode("utf-32-le", "surrogatepass"))
        assert (await run_cell(repl, code)).echo == repr((True, len(text), checksum))


async def test_lists_and_dicts_arrive_whole() -> None:
    documents = [f"document {n} " + string.printable * 20 + "é" * (n % 3) for n in range(200)]
    files = {f"file {n}.py": text for n, text in enumerate(documents)}
    async with sandbox_at(BEST) as sandbox:
        repl = await sandbox.open(ReplSpec(documents, limits=SMALL))
        assert (await repl.read("context")) == documents
        repl = await sandbox.open(ReplSpec(files, limits=SMALL))
        assert (await repl.read("context")) == files
        assert (await run_cell(repl, "context['new'] = 'x'; del context['file 0.py']; len(context)")).echo == "200"


async def test_context_is_outside_memory_limit_and_survives_crash() -> None:
    text = "0123456789abcdef" * (8 << 20)  # 128 MiB beside a limit of 64
    async with sandbox_at(BEST) as sandbox:
        repl = await sandbox.open(ReplSpec(text, limits=ReplLimits(memory_mb=64)))
        assert (await run_cell(repl, "len(context), context[-3:]")).echo == f"({len(text)}, 'def')"
        assert (await run_cell(repl, "held = bytearray(40 << 20)")).end == "ok"
        assert (await run_cell(repl, "more = bytearray(100 << 20)")).error == "MemoryError"
        assert (await run_cell(repl, "import os; os._exit(1)")).state_lost
        assert (await run_cell(repl, "len(context), context[-3:]")).echo == f"({len(text)}, 'def')"


async def test_writes_stay_private_to_one_repl() -> None:
    text = "a" * LONG
    vandal = """
import ctypes, sys
size = str.__basicsize__
body = ctypes.c_uint64.from_address(id(context) + size - 8).value
libc = ctypes.CDLL(None, use_errno=True)
page = body & ~4095
allowed = libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), 3) == 0
if allowed:
    ctypes.memset(body, 66, 10)
print(allowed, context[:12])
"""
    async with sandbox_at(BEST) as sandbox:
        first, second = [await sandbox.open(ReplSpec(text, limits=SMALL)) for _ in range(2)]
        assert (await run_cell(first, vandal)).stdout == "True BBBBBBBBBBaa\n"  # its own, private page
        assert (await run_cell(second, "context == 'a' * len(context)")).echo == "True"
        assert (await run_once(sandbox, "1")).end == "ok"
        third = await sandbox.open(ReplSpec(text, limits=SMALL))
        assert (await run_cell(third, "context == 'a' * len(context)")).echo == "True"


async def test_repls_share_one_copy() -> None:
    text = "x" * (64 << 20)
    async with sandbox_at(BEST) as sandbox:
        repls = [await sandbox.open(ReplSpec(text, limits=SMALL)) for _ in range(5)]
        for repl in repls:
            assert (await run_cell(repl, "context.count('x')")).echo == str(64 << 20)
        pids = [repl._worker.process.pid for repl in repls if repl._worker]
        own = [own_kb(pid) for pid in pids]
        assert len(own) == 5
        assert max(own) < 16 * 1024


def own_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


async def test_pool_shares_text_once_and_data_each_time() -> None:
    pool = ContextPool()
    text, documents = "x" * LONG, ["x" * LONG]
    assert await pool.share(text) is await pool.share(text)
    assert await pool.share("small") is None
    assert await pool.share({"n": 1}) is None
    first = await pool.share(documents)
    documents[0] = "y" * LONG
    second = await pool.share(documents)
    assert first is not None
    assert second is not None
    assert reopened(first)[0][0] == "x"
    assert reopened(second)[0][0] == "y"


async def test_pool_retains_few_descriptors() -> None:
    pool = ContextPool()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(100):
        await pool.share(f"{number}" + "x" * LONG)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= MAX_RETAINED
