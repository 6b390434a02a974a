"""Text files as contexts. REPLs map the file itself, and the host never copies it.

A file of ASCII is a ``str`` as it stands. One that exceeds ``STR_FILE_BYTES`` is mapped without a look at its bytes, and the
REPL decodes it when it is used (see ``worker.repl.mapped_text``). Any other file is decoded into shared memory.
"""

from __future__ import annotations

import codecs
import os
import stat
import threading
import weakref
from collections import OrderedDict
from typing import BinaryIO, TextIO, TypeAlias

from rlm.core.errors import ContextError
from rlm.core.sizes import STR_FILE_BYTES
from rlm.sandbox.shared_memory import Header, SharedContext, can_share, share_context
from rlm.sandbox.worker.boot.file_blocks import FileBlocks

MIN_MAPPED_BYTES = 64 * 1024
MAX_REMEMBERED = 64
_MAPPED_ENCODINGS = frozenset({"utf-8", "ascii"})

Version: TypeAlias = tuple[int, int, int, int]
"""Device, inode, size and time of the last change of a file."""


class FileContext(SharedContext):
    """A text file that REPLs map.

    Attributes:
        blocks: what is known of a file larger than ``STR_FILE_BYTES``; grows while it is counted in the background.
    """

    memory_bytes = 0

    def __init__(self, descriptor: int, header: Header, name: str, blocks: FileBlocks | None = None) -> None:
        super().__init__(descriptor, header)
        self._name = name
        self._version = version_of(descriptor)
        self.blocks = blocks

    def check(self) -> None:
        """See ``SharedContext.check``. A file that grew is still valid: REPLs have its beginning."""
        *_, size, changed = version_of(self.fileno())
        *_, size_before, changed_before = self._version
        if size < size_before or (size == size_before and changed != changed_before):
            raise ContextError(
                f"{self._name} was changed while a run used it, so its answer could mix two versions. Ask again over a copy."
            )


class TextFiles:
    """Opens text files as contexts, and remembers what it found out about each version of a file."""

    def __init__(self) -> None:
        self._open: weakref.WeakValueDictionary[Version, FileContext] = weakref.WeakValueDictionary()
        self._counts: OrderedDict[Version, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, file: BinaryIO | TextIO) -> SharedContext:
        """Shares an open file, from its start. Blocks while a file up to ``STR_FILE_BYTES`` is read.

        Raises:
            ContextError: the file is not text of its encoding.
        """
        encoding = codecs.lookup(getattr(file, "encoding", None) or "utf-8").name
        descriptor = _descriptor_of(file)
        if descriptor is None or encoding not in _MAPPED_ENCODINGS or not can_share():
            return share_context(file, encoding=encoding)
        version = version_of(descriptor)
        with self._lock:
            text_file = self._open.get(version)
        if text_file is not None:
            return text_file
        context = self._map(file, descriptor, version)
        with self._lock:
            if isinstance(context, FileContext):
                self._open[version] = context
        return context

    def _map(self, file: BinaryIO | TextIO, descriptor: int, version: Version) -> SharedContext:
        own, size = _reopen(descriptor), version[2]
        blocks = FileBlocks(lambda start, end: os.pread(own, end - start, start), size, own)
        with self._lock:
            blocks.add_counts(0, self._counts.get(version, b""))
        name = str(getattr(file, "name", "the file"))
        if size > STR_FILE_BYTES:
            context = FileContext(own, Header("mapped", size), name, blocks)
            counting = threading.Thread(
                target=self._count_in_background, args=(weakref.ref(context), version), name="rlm-count", daemon=True
            )
            counting.start()
            return context
        try:
            while not blocks.is_complete and blocks.is_ascii_so_far:
                blocks.count_next()
        except ValueError:  # not UTF-8: the error of decoding names the file
            pass
        self._remember(version, blocks)
        if blocks.is_ascii:
            return FileContext(own, Header("file", size), name)
        os.close(own)
        return share_context(file)

    def _count_in_background(self, context: weakref.ref[FileContext], version: Version) -> None:
        """Counts the characters of a file, block by block, as long as a REPL can use it."""
        while (alive := context()) is not None:
            blocks = alive.blocks
            if blocks is None or blocks.is_complete:
                break
            try:
                blocks.count_next()
            except (ValueError, OSError):  # the REPL meets it as well, and tells its model
                break
            if blocks.is_complete:
                self._remember(version, blocks)
            del alive, blocks

    def _remember(self, version: Version, blocks: FileBlocks) -> None:
        with self._lock:
            self._counts[version] = blocks.counts(0)
            while len(self._counts) > MAX_REMEMBERED:
                self._counts.popitem(last=False)


def version_of(descriptor: int) -> Version:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _descriptor_of(file: BinaryIO | TextIO) -> int | None:
    """The descriptor of a regular file that is worth mapping; None for any other."""
    try:
        descriptor = file.fileno()
        status = os.fstat(descriptor)
    except (OSError, ValueError):  # in memory, or closed
        return None
    return descriptor if stat.S_ISREG(status.st_mode) and status.st_size >= MIN_MAPPED_BYTES else None


def _reopen(descriptor: int) -> int:
    """A descriptor of the same file that cannot write."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # the file was opened by a user with more rights
        return os.dup(descriptor)
