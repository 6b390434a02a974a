"""Outlook messages (msg): headers, body and attachments."""

from __future__ import annotations

import datetime
import struct

from .compound import CompoundFile
from .encodings import decode
from .html import page_text
from .mail import Attach
from .result import Builder, Output
from .rtf import rtf_text

_PREFIX = "__substg1.0_"
_FIELDS = (("From", ("0C1A", "0042")), ("To", ("0E04",)), ("Cc", ("0E03",)), ("Bcc", ("0E02",)), ("Subject", ("0037",)))
_SENDER_ADDRESS = ("5D01", "0C1F")
_MAX_ATTACHMENTS = 1_000


def convert(data: bytes, path: str, output: Output, attach: Attach) -> None:
    """Adds the document of an msg file to ``output``; ``attach`` converts its attachments."""
    _add(CompoundFile(data), "", path, output, attach)


def is_message(file: CompoundFile) -> bool:
    return any(name.startswith("__properties_version1.0") for name in file.streams)


def _add(file: CompoundFile, folder: str, path: str, output: Output, attach: Attach) -> None:
    document = Builder(path, "mail")
    document.place("headers")
    for label, tags in _FIELDS:
        value = _first(file, folder, tags)
        if label == "From":
            address = _first(file, folder, _SENDER_ADDRESS)
            value = f"{value} <{address}>" if "@" in address and address not in value else value
        if value:
            document.line(f"{label}: {' '.join(value.split())}")
    date = _date(file, folder)
    if date:
        document.line(f"Date: {date}")
    document.line()
    document.place("body, line 1")
    document.line(_body(file, folder).strip())
    folders = sorted(
        {name[len(folder) :].split("/")[0] for name in file.streams if name.startswith(f"{folder}__attach")}
    )
    attachments: list[tuple[str, str]] = []
    for item in folders[:_MAX_ATTACHMENTS]:
        inside = f"{folder}{item}/"
        name = _first(file, inside, ("3707", "3704", "3001")) or f"attachment {len(attachments) + 1}"
        attachments.append((inside, " ".join(name.replace("/", "_").split())[:200]))
    if attachments:
        document.line()
        document.place("attachments")
        document.line("[Attachments] " + ", ".join(name for _, name in attachments))
    output.add(document)
    for inside, name in attachments:
        embedded = f"{inside}{_PREFIX}3701000D/"
        if any(stream.startswith(embedded) for stream in file.streams):
            if path.count("!/") < output.limits.depth:
                _add(file, embedded, f"{path}!/{name}", output, attach)
            continue
        content = file.read(f"{inside}{_PREFIX}37010102")
        output.charge(len(content), 1)
        attach(content, f"{path}!/{name}", output)


def _first(file: CompoundFile, folder: str, tags: tuple[str, ...]) -> str:
    for tag in tags:
        wide = file.read(f"{folder}{_PREFIX}{tag}001F")
        if wide:
            return wide.decode("utf-16-le", "replace").rstrip("\0")
        narrow = file.read(f"{folder}{_PREFIX}{tag}001E")
        if narrow:
            return decode(narrow.rstrip(b"\0"))
    return ""


def _date(file: CompoundFile, folder: str) -> str:
    """Delivery or submission time: eight bytes in the fixed-length properties."""
    properties = file.read(f"{folder}__properties_version1.0")
    for start in range(32 if not folder else 24, len(properties) - 15, 16):
        tag = struct.unpack_from("<I", properties, start)[0]
        if tag in (0x0E060040, 0x00390040):
            ticks = struct.unpack_from("<Q", properties, start + 8)[0]
            try:
                moment = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
                    microseconds=ticks // 10
                )
            except OverflowError:
                return ""
            return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if ticks else ""
    return ""


def _body(file: CompoundFile, folder: str) -> str:
    plain = _first(file, folder, ("1000",))
    if plain:
        return plain
    markup = file.read(f"{folder}{_PREFIX}10130102")
    if markup:
        return page_text(decode(markup))[0]
    compressed = file.read(f"{folder}{_PREFIX}10090102")
    return rtf_text(decompress_rtf(compressed).decode("latin-1")) if compressed else ""


_INITIAL = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor MS Sans Serif"
    b"Symbol"
    b"ArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)


def decompress_rtf(data: bytes) -> bytes:
    """Bytes of compressed RTF, as [MS-OXRTFCP] describes it."""
    if len(data) < 16 or data[8:12] != b"LZFu":
        return data[16:] if data[8:12] == b"MELA" else b""
    raw_size = min(struct.unpack_from("<I", data, 4)[0], 50_000_000)
    window = bytearray(_INITIAL) + bytearray(4096 - len(_INITIAL))
    at, write, out = 16, len(_INITIAL), bytearray()
    while at < len(data) and len(out) < raw_size:
        control = data[at]
        at += 1
        for bit in range(8):
            if at >= len(data) or len(out) >= raw_size:
                break
            if control >> bit & 1:
                if at + 1 >= len(data):
                    return bytes(out)
                pair = data[at] << 8 | data[at + 1]
                at += 2
                offset, length = pair >> 4, (pair & 15) + 2
                if offset == write % 4096:
                    return bytes(out)
                for _ in range(length):
                    byte = window[offset % 4096]
                    out.append(byte)
                    window[write % 4096] = byte
                    write, offset = write + 1, offset + 1
            else:
                out.append(data[at])
                window[write % 4096] = data[at]
                write, at = write + 1, at + 1
    return bytes(out)
