"""Reads source files into documents: plain text in this process, every other format in a confined worker.

The worker gets the file's bytes through an open descriptor and nothing else; see ``rlm.documents.convert``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from rlm.core.errors import ContextError
from rlm.core.values import frozen
from rlm.documents.cache import ConversionCache
from rlm.documents.convert.dispatch import NATIVE_KINDS, TEXT_KINDS, convert, find_kind, is_image
from rlm.documents.convert.encodings import decode_again
from rlm.documents.convert.pdf import SCAN_REASON
from rlm.documents.convert.result import ConversionError, Limits
from rlm.documents.large_text import LARGEST_DOCUMENT_BYTES
from rlm.documents.plugins import BLANK_PAGES, Converter, convert_with, with_recognised_pages
from rlm.documents.sources import SourceFile
from rlm.documents.values import Document, LeftOut, document_from
from rlm.documents.workers import Workers, size_of
from rlm.ports import Sandbox

OnProgress = Callable[[int, int, int], None]
"""Called with the number of files read, of all files, and of files left out."""

MAX_WORKER_FILE_BYTES = 1_000_000_000
GROUP_FILES = 16
GROUP_FILE_BYTES = 200_000
_HEAD_BYTES = 8_192


@frozen
class Reading:
    """Options of reading.

    Attributes:
        encoding: of text files whose encoding is not evident; empty to detect it.
        text_chars: characters of text of one source file.
        cache: conversions of earlier runs; None to convert every file.
        parallel: files converted at the same time.
        converter: of another package, for every file that is not plain text; it runs in this process.
        ocr: likewise, for images, and for pages of PDFs that have no text.
    """

    encoding: str = ""
    text_chars: int = 60_000_000
    cache: ConversionCache | None = None
    parallel: int = 2
    converter: Converter | None = None
    ocr: Converter | None = None


class _Outcome:
    def __init__(self, documents: Sequence[Document] = (), left_out: Sequence[LeftOut] = ()) -> None:
        self.documents = documents
        self.left_out = left_out


async def read_files(
    files: Sequence[SourceFile],
    open_sandbox: Callable[[Sequence[str]], Sandbox],
    reading: Reading,
    on_progress: OnProgress | None = None,
) -> tuple[list[Document], list[LeftOut]]:
    """Documents of all files, in their order, and what was left out.

    ``open_sandbox`` is called when a file needs a worker: with the packages that it needs besides the usual ones.

    Raises:
        SandboxError: no worker can be started at all.
    """
    reader = _Reader(Workers(open_sandbox, reading.text_chars, reading.encoding), reading)
    slots = asyncio.Semaphore(reading.parallel)
    done = skipped = 0

    def report(outcome: _Outcome) -> None:
        nonlocal done, skipped
        done += 1
        skipped += bool(outcome.left_out and not outcome.documents)
        if on_progress is not None:
            on_progress(done, len(files), skipped)

    async def read(group: Sequence[SourceFile]) -> list[_Outcome]:
        async with slots:
            return await reader.read_group(group, report)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(read(group)) for group in plan_groups(files, reading.parallel)]
    outcomes = [outcome for task in running for outcome in task.result()]
    documents = [document for outcome in outcomes for document in outcome.documents]
    return documents, [item for outcome in outcomes for item in outcome.left_out]


def plan_groups(files: Sequence[SourceFile], parallel: int) -> Iterator[list[SourceFile]]:
    """Groups of files that follow each other, enough of them for all parallel slots. A large file is a group of its own."""
    most = max(1, min(GROUP_FILES, len(files) // (2 * parallel)))
    group: list[SourceFile] = []
    for file in files:
        if group and (len(group) >= most or not _is_small(file)):
            yield group
            group = []
        group.append(file)
        if not _is_small(file):
            yield group
            group = []
    if group:
        yield group


def _is_small(file: SourceFile) -> bool:
    try:
        return file.path is not None and file.path.stat().st_size <= GROUP_FILE_BYTES
    except (OSError, ValueError):
        return False


@frozen
class _Waiting:
    """A small file that waits for the other files of its group."""

    data: bytes
    key: str | None


class _Reader:
    def __init__(self, workers: Workers, reading: Reading) -> None:
        self._workers = workers
        self._reading = reading

    async def read_group(self, files: Sequence[SourceFile], report: Callable[[_Outcome], None]) -> list[_Outcome]:
        """Outcomes of files in their order. Those that can share a worker do; ``report`` gets each outcome once."""
        outcomes: dict[int, _Outcome] = {}
        waiting: dict[int, _Waiting] = {}
        for at, file in enumerate(files):
            outcome = await self._read(file, may_wait=len(files) > 1)
            if isinstance(outcome, _Waiting):
                waiting[at] = outcome
            else:
                outcomes[at] = outcome
                report(outcome)
        if len(waiting) > 1:
            results = await self._workers.convert_group([(files[at].name, item.data) for at, item in waiting.items()])
        else:
            results = [None] * len(waiting)
        for (at, item), result in zip(waiting.items(), results, strict=True):
            if result is None:
                outcomes[at] = await self._read_alone(files[at])
            else:
                await self._store(item.key, result)
                outcomes[at] = outcome_of(result, files[at].name, len(item.data))
            report(outcomes[at])
        return [outcomes[at] for at in range(len(files))]

    async def _read_alone(self, file: SourceFile) -> _Outcome:
        outcome = await self._read(file, may_wait=False)
        assert isinstance(outcome, _Outcome)
        return outcome

    async def _read(self, file: SourceFile, *, may_wait: bool) -> _Outcome | _Waiting:
        try:
            if file.address:
                data, name = await _fetch(file)
                return await self._read_bytes(data, name)
            if file.remote is not None:
                return await self._read_bytes(await asyncio.to_thread(file.remote.read), file.name)
            if file.data is not None:
                return await self._read_bytes(file.data, file.name)
            assert file.path is not None
            with file.path.open("rb") as opened:
                return await self._read_open(opened, file.name, may_wait=may_wait)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return _Outcome(left_out=[LeftOut(file.name, f"cannot read: {why}")])
        except ContextError as error:
            return _Outcome(left_out=[LeftOut(file.name, str(error))])

    async def _read_bytes(self, data: bytes, name: str) -> _Outcome | _Waiting:
        with tempfile.TemporaryFile() as opened:
            await asyncio.to_thread(opened.write, data)
            opened.flush()
            return await self._read_open(opened, name)

    async def _read_open(self, opened: BinaryIO, name: str, *, may_wait: bool = False) -> _Outcome | _Waiting:
        size = size_of(opened)
        if size > LARGEST_DOCUMENT_BYTES:
            return _Outcome(left_out=[LeftOut(name, f"larger than {LARGEST_DOCUMENT_BYTES:,} bytes")])
        head = os.pread(opened.fileno(), _HEAD_BYTES, 0)
        try:
            kind = find_kind(head, name, size)
        except ConversionError as error:
            if not size or (self._reading.converter is None and (self._reading.ocr is None or not is_image(head))):
                return _Outcome(left_out=[LeftOut(name, str(error))])
            kind = "image"  # or another binary format
        if kind in TEXT_KINDS:
            result = await asyncio.to_thread(_convert_text, opened, name, self._limits(size), self._reading.encoding)
            return outcome_of(result, name, size)
        converter = self._reading.converter or (self._reading.ocr if kind == "image" else None)
        if converter is not None:
            result = await asyncio.to_thread(
                convert_with, converter, os.pread(opened.fileno(), size, 0), name, self._limits(size)
            )
            return outcome_of(result, name, size)
        key = await self._cache_key(opened, name)
        cached = None if key is None else await asyncio.to_thread(self._cached, key)
        if cached is not None:
            return await self._outcome(cached, name, size, opened)
        if size > MAX_WORKER_FILE_BYTES:
            return _Outcome(left_out=[LeftOut(name, f"larger than {MAX_WORKER_FILE_BYTES:,} bytes")])
        if may_wait and size <= GROUP_FILE_BYTES and kind not in NATIVE_KINDS:
            return _Waiting(os.pread(opened.fileno(), size, 0), key)
        result = await self._workers.convert(opened, name, size)
        await self._store(key, result)
        return await self._outcome(result, name, size, opened)

    async def _outcome(self, result: Mapping[str, Any], name: str, size: int, opened: BinaryIO) -> _Outcome:
        """Documents of a result, whose scanned pages are recognised if a converter can."""
        if self._reading.ocr is not None:
            result = await asyncio.to_thread(_recognise, result, self._reading.ocr, name, size, opened)
        return await asyncio.to_thread(outcome_of, result, name, size, opened)

    async def _store(self, key: str | None, result: Mapping[str, Any]) -> None:
        if (
            key is not None
            and self._reading.cache is not None
            and not result.get("transient")
            and not result.get("missing")
        ):
            await asyncio.to_thread(self._reading.cache.put, key, result)

    def _limits(self, size: int) -> Limits:
        """Limits for a file, whose text can be as long as the file itself."""
        return Limits(text_chars=max(self._reading.text_chars, size))

    def _cached(self, key: str) -> Mapping[str, Any] | None:
        return None if self._reading.cache is None else self._reading.cache.get(key)

    async def _cache_key(self, opened: BinaryIO, name: str) -> str | None:
        cache = self._reading.cache
        if cache is None:
            return None
        digest = await asyncio.to_thread(_digest, opened)
        return cache.key(digest, name, f"{self._reading.encoding}\0{self._reading.text_chars}")


def outcome_of(result: Mapping[str, Any], name: str, size: int, opened: BinaryIO | None = None) -> _Outcome:
    """Documents of a converter's result, which is untrusted. ``opened`` is the file, for texts that are decoded again."""
    try:
        items = [_with_text(item, opened) for item in result["documents"]]
        documents = [document_from(item, 0 if at else size) for at, item in enumerate(items)]
        left_out = [LeftOut(str(path)[:4_000], str(reason)[:1_000]) for path, reason in result["left_out"]]
    except (KeyError, TypeError, ValueError) as error:
        return _Outcome(left_out=[LeftOut(name, f"conversion failed: malformed result ({error})")])
    return _Outcome(documents, left_out)


def _recognise(result: Mapping[str, Any], ocr: Converter, name: str, size: int, opened: BinaryIO) -> Mapping[str, Any]:
    try:
        documents, left_out = list(result["documents"]), list(result["left_out"])
        is_scan = any(path == name and str(reason).endswith(SCAN_REASON) for path, reason in left_out)
        if is_scan:
            return convert_with(ocr, os.pread(opened.fileno(), size, 0), name, Limits())
        for at, item in enumerate(documents):
            if item["path"] == name and item["kind"] == "pdf" and any(BLANK_PAGES in note for note in item["notes"]):
                documents[at] = with_recognised_pages(item, ocr, os.pread(opened.fileno(), size, 0), name)
    except (KeyError, TypeError, ValueError):
        return result  # its form is checked, and refused, by the next step
    return {**result, "documents": documents}


def _with_text(item: Mapping[str, Any], opened: BinaryIO | None) -> Mapping[str, Any]:
    """The document with its text, which is decoded from the file if the worker gave only its encoding.

    Raises:
        ValueError, TypeError: it cannot be decoded like that.
    """
    if item.get("decoding") is None or opened is None:
        return item
    name, errors, size, chars = item["decoding"]
    text = decode_again(os.pread(opened.fileno(), size, 0), name, errors)
    if len(text) != chars:
        raise ValueError("the text of the file has another length")
    return {**item, "text": text}


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
    network: Any = import_module("rlm.documents.download")  # most sources are files, and need no HTTP client
    data, content_type = await network.download(file.address)
    path = file.address.partition("?")[0].partition("#")[0]
    if "." in Path(path.rpartition("/")[2]).suffix:
        return data, path
    ending = {"text/html": ".html", "application/json": ".json", "text/csv": ".csv", "text/markdown": ".md"}.get(
        content_type, ""
    )
    return data, path + ending
