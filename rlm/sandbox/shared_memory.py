"""Contexts shared by all REPLs of a host, each written once to a sealed memory file that the REPLs map.

The file holds text in CPython's own in-memory form, so that a REPL neither decodes nor copies it (see
``worker.boot.shared_text``). An input file is read and decoded in pieces, so the host never holds it whole. After sealing,
no process can change the memory file, not even this one.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Literal, TextIO, TypeAlias, TypeGuard

from rlm.core.cells import PlainValue
from rlm.core.errors import ContextError
from rlm.core.values import frozen
from rlm.sandbox.plain_data import dump_in_steps
from rlm.sandbox.text_table import Group, TextTable
from rlm.sandbox.worker.wire.values import NotPlain

Shape: TypeAlias = Literal["str", "list", "dict", "plain", "file", "mapped"]
PIECE = 1 << 20  # characters or bytes handled at a time
SMALL_WRITE = 64 * 1024
STEP_ITEMS = 65_536


@frozen
class Header:
    """Layout of a shared context, which a REPL needs to open it.

    Attributes:
        shape: "str", "list" of str, "dict" of str to str, or "plain". A dict stores all keys first, then all values. Plain
            data stands at the start of the file, encoded as ``kind`` (see ``worker.wire.values``). The shape "file" is a file of
            ASCII. The shape "mapped" is a text file that is decoded when it is used.
        size: bytes of the whole file.
        count: number of strings.
        groups: the tables of strings, by form.
        order_at: offset of the order of the strings: the number of each in the groups. -1 if the groups are in order.
        length: bytes of plain data.
        kind: kind of plain data.
    """

    shape: Shape
    size: int
    count: int = 0
    groups: tuple[Group, ...] = ()
    order_at: int = -1
    length: int = 0
    kind: str = ""


class SharedContext:
    """A context in a sealed memory file. Close it when no further REPL needs it; REPLs that opened it are not affected."""

    def __init__(self, descriptor: int, header: Header) -> None:
        self.header = header
        self.source: str | None = None  # set by a pool that finds contexts by the identity of their text
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that it takes, once for the whole machine."""
        return self.header.size

    def check(self) -> None:
        """Raises ContextError if the data changed since it was shared. A sealed memory file cannot."""

    def fileno(self) -> int:
        """The memory file's descriptor.

        Raises:
            ContextError: it was closed.
        """
        if not self._close.alive:
            raise ContextError("this shared context was closed; share the value again")
        return self._descriptor

    def close(self) -> None:
        """Releases the host's own reference. Safe to call twice."""
        self._close()


def can_share() -> bool:
    """True on Linux, which alone has memory files that can be sealed."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


def share_context(value: PlainValue | BinaryIO | TextIO, *, encoding: str = "utf-8", name: str = "") -> SharedContext:
    """Writes a context into memory that REPLs can share.

    Args:
        value: text, a list or dict of texts, other plain data, or an open file. A file is read from its start and decoded
            exactly: line ends, NUL and byte order marks are preserved.
        encoding: of a file.
        name: name of a file in error messages; its own name by default.

    Raises:
        ContextError: the data cannot enter a sandbox, or the file has another encoding. The message names the offset.
    """
    writer = _Writer()
    try:
        header = _write(writer, value, encoding, name)
        writer.seal()
    except BaseException:
        os.close(writer.descriptor)
        raise
    return SharedContext(writer.descriptor, header)


def _write(writer: _Writer, value: PlainValue | BinaryIO | TextIO, encoding: str, name: str) -> Header:
    if isinstance(value, str):
        return writer.write_texts("str", [value])
    if type(value) is list and value and _are_texts(value):
        return writer.write_texts("list", value)
    if type(value) is dict and value and _are_texts(parts := [*value, *value.values()]):
        return writer.write_texts("dict", parts)
    if isinstance(value, io.StringIO):
        return writer.write_texts("str", [value.getvalue()])
    if is_file(value):
        label = name or str(getattr(value, "name", "the file"))
        with contextlib.ExitStack() as stack:
            return writer.write_pieces(_decoded(_as_seekable(_binary(value), stack), encoding, label))
    try:
        kind, pieces = dump_in_steps(value)
        for piece in pieces:
            writer.write(piece)
    except NotPlain as error:
        raise ContextError(
            f"the context cannot enter the sandbox: {error}. Pass text, or lists and dicts of plain data."
        ) from None
    length = writer.position()
    return Header("plain", max(length, 1), length=length, kind=kind)


def is_file(value: object) -> TypeGuard[BinaryIO | TextIO]:
    return hasattr(value, "read") and hasattr(value, "fileno")


def _binary(file: BinaryIO | TextIO) -> BinaryIO:
    """The underlying bytes of a text file, which has an encoding of its own and translates line ends."""
    return file.buffer if isinstance(file, io.TextIOBase) else file  # type: ignore[return-value]


Pieces: TypeAlias = Callable[[], Iterator[str]]
"""An iterator over the pieces of one text, which starts again at each call."""


class _Writer:
    """A memory file that is being written."""

    def __init__(self) -> None:
        if not can_share():
            raise ContextError("shared contexts need Linux; pass the value itself")
        self.descriptor = os.memfd_create("rlm-context", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._at = 0
        self._pending = bytearray()  # many small documents share a system call

    def write(self, data: bytes) -> None:
        self._at += len(data)
        if len(data) < SMALL_WRITE:
            self._pending += data
            if len(self._pending) < PIECE:
                return
            data = b""
        self._flush()
        self._write_through(data)

    def _flush(self) -> None:
        pending, self._pending = bytes(self._pending), bytearray()
        self._write_through(pending)

    def _write_through(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.descriptor, view) :]
            except OSError as error:
                raise ContextError(
                    f"no memory for a context of more than {self._at:,} bytes: {error.strerror}"
                ) from error

    def write_texts(self, shape: Shape, texts: Sequence[str]) -> Header:
        """Writes all texts and their table."""
        table = TextTable(self.write, self.position)
        table.add(texts)
        return self._end_table(shape, len(texts), table)

    def write_pieces(self, pieces: Pieces) -> Header:
        """Writes one text and its table."""
        table = TextTable(self.write, self.position)
        table.add_pieces(pieces)
        return self._end_table("str", 1, table)

    def _end_table(self, shape: Shape, count: int, table: TextTable) -> Header:
        groups, order_at = table.finish()
        return Header(shape, self._at, count, groups, order_at)

    def position(self) -> int:
        """The offset of the next byte."""
        return self._at

    def seal(self) -> None:
        """Seals the file: no process can write, grow or shrink it any more."""
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        if self._at == 0:
            self.write(b"\0")  # an empty file cannot be mapped
        self._flush()
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)


def _are_texts(values: Sequence[object]) -> bool:
    """True if all values are ``str``, without the interpreter's lock for long."""
    return all(
        set(map(type, values[start : start + STEP_ITEMS])) == {str} for start in range(0, len(values), STEP_ITEMS)
    )


def _decoded(file: BinaryIO, encoding: str, label: str) -> Pieces:
    try:
        new_decoder = codecs.getincrementaldecoder(encoding)
    except LookupError:
        raise ContextError(
            f"`encoding` must be a known encoding such as 'utf-8', 'latin-1' or 'utf-16'; got {encoding!r}"
        ) from None

    def pieces() -> Iterator[str]:
        file.seek(0)
        decoder = new_decoder("strict")
        done = 0
        while True:
            data = file.read(PIECE)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                offset = done - pending + error.start
                bad = error.object[error.start : error.start + 1].hex()
                raise ContextError(
                    f"{label} is not valid {encoding}: byte 0x{bad} at offset {offset:,} ({error.reason}). "
                    "Name its encoding, or pass its bytes."
                ) from None
            done += len(data)
            if text:
                yield text
            if not data:
                return

    return pieces


def _as_seekable(file: BinaryIO, stack: contextlib.ExitStack) -> BinaryIO:
    """Copies a pipe into a memory file, because a pipe can be read only once."""
    if file.seekable():
        return file
    copy = stack.enter_context(os.fdopen(os.memfd_create("rlm-input", os.MFD_CLOEXEC), "w+b"))
    while data := file.read(PIECE):
        copy.write(data)
    copy.flush()
    return copy
