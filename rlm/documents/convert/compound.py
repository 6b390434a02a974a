"""OLE compound files: the container of Outlook messages (msg) and of older Office documents (xls, doc, ppt)."""

from __future__ import annotations

import struct

from .result import ConversionError

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_FREE, _END, _MAX_CHAIN = 0xFFFFFFFF, 0xFFFFFFFE, 4_000_000
_MAX_ENTRIES = 100_000


class CompoundFile:
    """Streams by path, for instance ``"__attach_version1.0_#00000000/__substg1.0_37010102"``."""

    def __init__(self, data: bytes) -> None:
        if data[:8] != MAGIC or len(data) < 512:
            raise ConversionError("not a compound file")
        self._data = data
        sector_shift, mini_shift = struct.unpack_from("<HH", data, 30)
        if sector_shift not in (9, 12) or not 4 <= mini_shift < sector_shift:
            raise ConversionError("damaged compound file: sector size")
        self._size, self._mini_size = 1 << sector_shift, 1 << mini_shift
        count, directory = struct.unpack_from("<I", data, 44)[0], struct.unpack_from("<I", data, 48)[0]
        self._cutoff = struct.unpack_from("<I", data, 56)[0]
        mini_fat, difat = struct.unpack_from("<I", data, 60)[0], struct.unpack_from("<I", data, 68)[0]
        self._fat = self._read_fat(count, difat)
        self.streams: dict[str, tuple[int, int]] = {}
        self._mini_fat = _words(self._chain(mini_fat))
        self._mini = b""
        self._read_directory(self._chain(directory))

    def _sector(self, number: int) -> bytes:
        start = (number + 1) * self._size
        return self._data[start : start + self._size]

    def _read_fat(self, count: int, difat: int) -> list[int]:
        sectors = [number for number in struct.unpack_from("<109I", self._data, 76) if number < _END]
        steps = 0
        while difat < _END and steps < 10_000:
            words = _words(self._sector(difat))
            if not words:
                break
            sectors.extend(number for number in words[:-1] if number < _END)
            difat, steps = words[-1], steps + 1
        if count > len(self._data) // self._size + 1:
            raise ConversionError("damaged compound file: allocation table")
        return [word for number in sectors[:count] for word in _words(self._sector(number))]

    def _chain(self, first: int) -> bytes:
        parts, steps, seen = [], 0, set[int]()
        while first < len(self._fat) and first not in seen and steps < _MAX_CHAIN:
            seen.add(first)
            parts.append(self._sector(first))
            first, steps = self._fat[first], steps + 1
        return b"".join(parts)

    def _read_directory(self, data: bytes) -> None:
        entries = []
        for start in range(0, min(len(data), _MAX_ENTRIES * 128), 128):
            entry = data[start : start + 128]
            if len(entry) < 128:
                break
            length = min(struct.unpack_from("<H", entry, 64)[0], 64)
            name = entry[: max(length - 2, 0)].decode("utf-16-le", "replace")
            kind = entry[66]
            left, right, child = struct.unpack_from("<III", entry, 68)
            first, size = struct.unpack_from("<I", entry, 116)[0], struct.unpack_from("<I", entry, 120)[0]
            entries.append((name, kind, left, right, child, first, size))
        if not entries:
            raise ConversionError("damaged compound file: no directory")
        self._mini = self._chain(entries[0][5])
        waiting, seen = [(entries[0][4], "")], set[int]()
        while waiting:
            number, folder = waiting.pop()
            if number >= len(entries) or number in seen:
                continue
            seen.add(number)
            name, kind, left, right, child, first, size = entries[number]
            waiting.extend(((left, folder), (right, folder)))
            if kind == 2:
                self.streams[folder + name] = (first, size)
            elif kind == 1:
                waiting.append((child, f"{folder}{name}/"))

    def read(self, path: str) -> bytes:
        """Bytes of a stream; empty if there is none."""
        first, size = self.streams.get(path, (_END, 0))
        if size >= self._cutoff:
            return self._chain(first)[:size]
        parts, steps = [], 0
        while first < len(self._mini_fat) and steps * self._mini_size < size:
            start = first * self._mini_size
            parts.append(self._mini[start : start + self._mini_size])
            first, steps = self._mini_fat[first], steps + 1
        return b"".join(parts)[:size]


def _words(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4]))
