"""Reads source files into documents: plain text in this process, every other format in a confined worker.

The worker gets the file's bytes through an open descriptor and nothing else; see ``rlm.documents.convert``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from rlm.core.cells import Cell
from rlm.core.errors import ContextError, SandboxError
from rlm.core.file_bytes import FileBytes
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import Subcall, SubcallOutcome
from rlm.core.values import frozen
from rlm.documents.cache import ConversionCache
from rlm.documents.convert.dispatch import TEXT_KINDS, convert, find_kind
from rlm.documents.convert.result import ConversionError, Limits
from rlm.documents.download import download
from rlm.documents.sources import SourceFile
from rlm.documents.values import Document, LeftOut, document_from
from rlm.ports import Sandbox

OnProgress = Callable[[int, int, int], None]
"""Called with the number of files read, of all files, and of files left out."""

MAX_FILE_BYTES = 4_000_000_000
MAX_WORKER_FILE_BYTES = 1_000_000_000
CONVERSION_SECONDS = 120.0
MEMORY_MB = 4096
VALUE_MB = 240  # of the text of one file
_HEAD_BYTES = 8_192
_PROGRAM = """
from rlm.documents.convert.dispatch import convert as _convert
from rlm.documents.convert.result import Limits as _Limits
_result = _convert(context, {name!r}, _Limits(text_chars={chars}), {encoding!r})
"""


@frozen
class Reading:
    """Options of reading.

    Attributes:
        encoding: of text files whose encoding is not evident; empty to detect it.
        text_chars: characters of text of one source file.
        cache: conversions of earlier runs; None to convert every file.
        parallel: files converted at the same time.
    """

    encoding: str = ""
    text_chars: int = 60_000_000
    cache: ConversionCache | None = None
    parallel: int = 2


class _Outcome:
    def __init__(self, documents: Sequence[Document] = (), left_out: Sequence[LeftOut] = ()) -> None:
        self.documents = documents
        self.left_out = left_out


async def read_files(
    files: Sequence[SourceFile],
    open_sandbox: Callable[[], Sandbox],
    reading: Reading,
    on_progress: OnProgress | None = None,
) -> tuple[list[Document], list[LeftOut]]:
    """Documents of all files, in their order, and what was left out.

    ``open_sandbox`` is called when the first file needs a worker.

    Raises:
        SandboxError: no worker can be started at all.
    """
    reader = _Reader(open_sandbox, reading)
    slots = asyncio.Semaphore(reading.parallel)
    done = skipped = 0

    async def read(file: SourceFile) -> _Outcome:
        nonlocal done, skipped
        async with slots:
            outcome = await reader.read(file)
        done += 1
        skipped += bool(outcome.left_out and not outcome.documents)
        if on_progress is not None:
            on_progress(done, len(files), skipped)
        return outcome

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(read(file)) for file in files]
    outcomes = [task.result() for task in running]
    documents = [document for outcome in outcomes for document in outcome.documents]
    return documents, [item for outcome in outcomes for item in outcome.left_out]


class _Reader:
    def __init__(self, open_sandbox: Callable[[], Sandbox], reading: Reading) -> None:
        self._open_sandbox = open_sandbox
        self._reading = reading

    async def read(self, file: SourceFile) -> _Outcome:
        try:
            if file.address:
                data, name = await _fetch(file)
                return await self._read_bytes(data, name)
            if file.data is not None:
                return await self._read_bytes(file.data, file.name)
            assert file.path is not None
            with file.path.open("rb") as opened:
                return await self._read_open(opened, file.name)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return _Outcome(left_out=[LeftOut(file.name, f"cannot read: {why}")])
        except ContextError as error:
            return _Outcome(left_out=[LeftOut(file.name, str(error))])

    async def _read_bytes(self, data: bytes, name: str) -> _Outcome:
        with tempfile.TemporaryFile() as opened:
            await asyncio.to_thread(opened.write, data)
            opened.flush()
            return await self._read_open(opened, name)

    async def _read_open(self, opened: BinaryIO, name: str) -> _Outcome:
        size = os.fstat(opened.fileno()).st_size
        if size > MAX_FILE_BYTES:
            return _Outcome(left_out=[LeftOut(name, f"larger than {MAX_FILE_BYTES:,} bytes")])
        head = os.pread(opened.fileno(), _HEAD_BYTES, 0)
        try:
            kind = find_kind(head, name, size)
        except ConversionError as error:
            return _Outcome(left_out=[LeftOut(name, str(error))])
        key = await self._cache_key(opened, name, kind)
        result = None if key is None else await asyncio.to_thread(self._cached, key)
        if result is None:
            if kind in TEXT_KINDS:
                result = await asyncio.to_thread(_convert_text, opened, name, self._limits(), self._reading.encoding)
            elif size > MAX_WORKER_FILE_BYTES:
                return _Outcome(left_out=[LeftOut(name, f"larger than {MAX_WORKER_FILE_BYTES:,} bytes")])
            else:
                result = await self._convert_confined(opened, name, size)
                if key is not None and self._reading.cache is not None and not result.get("transient"):
                    await asyncio.to_thread(self._reading.cache.put, key, result)
        return _outcome_of(result, name, size)

    def _limits(self) -> Limits:
        return Limits(text_chars=self._reading.text_chars)

    def _cached(self, key: str) -> Mapping[str, Any] | None:
        return None if self._reading.cache is None else self._reading.cache.get(key)

    async def _cache_key(self, opened: BinaryIO, name: str, kind: str) -> str | None:
        cache = self._reading.cache
        if cache is None or kind in TEXT_KINDS:
            return None
        digest = await asyncio.to_thread(_digest, opened)
        return cache.key(digest, name, f"{self._reading.encoding}\0{self._reading.text_chars}")

    async def _convert_confined(self, opened: BinaryIO, name: str, size: int) -> Mapping[str, Any]:
        limits = ReplLimits(cell_seconds=CONVERSION_SECONDS, memory_mb=MEMORY_MB, value_mb=VALUE_MB)
        spec = ReplSpec(FileBytes(opened.fileno(), size), can_call=False, limits=limits)
        program = _PROGRAM.format(name=name, chars=self._reading.text_chars, encoding=self._reading.encoding)
        repl = await self._open_sandbox().open(spec)
        try:
            result = await repl.execute(Cell(1, 1, program), _refuse)
            if result.end == "timeout":
                return _failure(name, f"conversion took longer than {CONVERSION_SECONDS:.0f} s")
            if result.end != "ok":
                return _failure(name, f"conversion failed: {result.error or result.end}")
            value = await repl.read("_result")
        except SandboxError as error:
            return _failure(name, f"conversion failed: {error}")
        finally:
            await asyncio.shield(repl.aclose())
        return value if isinstance(value, dict) else _failure(name, "conversion failed: malformed result")


async def _refuse(_call: Subcall) -> SubcallOutcome:
    raise SandboxError("a converter asked for a sub-call")


def _failure(name: str, reason: str) -> dict[str, Any]:
    return {"documents": [], "left_out": [[name, reason]], "transient": True}


def _outcome_of(result: Mapping[str, Any], name: str, size: int) -> _Outcome:
    """Documents of a converter's result, which is untrusted."""
    try:
        documents = [document_from(item, 0 if at else size) for at, item in enumerate(result["documents"])]
        left_out = [LeftOut(str(path)[:4_000], str(reason)[:1_000]) for path, reason in result["left_out"]]
    except (KeyError, TypeError, ValueError) as error:
        return _Outcome(left_out=[LeftOut(name, f"conversion failed: malformed result ({error})")])
    return _Outcome(documents, left_out)


def _convert_text(opened: BinaryIO, name: str, limits: Limits, encoding: str) -> Mapping[str, Any]:
    opened.seek(0)
    return convert(opened.read(), name, limits, encoding)


def _digest(opened: BinaryIO) -> str:
    opened.seek(0)
    digest = hashlib.sha256()
    while piece := opened.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


async def _fetch(file: SourceFile) -> tuple[bytes, str]:
    """Bytes of an address, with an ending for the format if the address has none."""
    data, content_type = await download(file.address)
    path = file.address.partition("?")[0].partition("#")[0]
    if "." in Path(path.rpartition("/")[2]).suffix:
        return data, path
    ending = {"text/html": ".html", "application/json": ".json", "text/csv": ".csv", "text/markdown": ".md"}.get(
        content_type, ""
    )
    return data, path + ending
