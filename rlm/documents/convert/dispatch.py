"""Finds the format of a file from its first bytes and its name, and runs the converter of that format."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

from . import (
    archive,
    delimited,
    docx,
    epub,
    feed,
    html,
    legacy,
    mail,
    notebook,
    odf,
    outlook,
    pdf,
    pptx,
    rtf,
    sqlite,
    structured,
    xlsx,
)
from .compound import MAGIC as COMPOUND_MAGIC
from .compound import CompoundFile
from .packages import Package
from .result import ConversionError, LimitError, Limits, MissingPackageError, NeedsOwnWorkerError, Output, Plain

_HEAD_BYTES = 8_192
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0")
_BINARY = {
    b"\x7fELF": "program", b"MZ": "program", b"7z\xbc\xaf": "7z archive (not read)", b"Rar!": "rar archive (not read)",
    b"\x28\xb5/\xfd": "zstd file (not read)", b"OggS": "audio", b"ID3": "audio", b"fLaC": "audio", b"\x1aE\xdf\xa3": "video",
    b"\xca\xfe\xba\xbe": "program", b"wOFF": "font", b"wOF2": "font", b"OTTO": "font", b"\0asm": "program",
    b"x\x9f>\x22": "winmail.dat, the form of Outlook's rich text (not read)",
}  # fmt: skip
_MAGIC = {
    b"\x1f\x8b": "compressed", b"BZh": "compressed", b"\xfd7zXZ": "compressed", b"SQLite format 3\0": "sqlite", b"{\\rtf": "rtf",
    b"PAR1": "parquet",
}  # fmt: skip
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\b\x1b")
_MAX_CONTROL_SHARE = 0.05
_KINDS = {
    ".md": "markdown", ".markdown": "markdown", ".rst": "text", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".xml": "xml", ".py": "code", ".js": "code", ".ts": "code", ".c": "code",
    ".h": "code", ".cpp": "code", ".java": "code", ".go": "code", ".rs": "code", ".rb": "code", ".sh": "code", ".sql": "code",
    ".css": "code", ".log": "log",
}  # fmt: skip
TEXT_KINDS = frozenset({"text", *_KINDS.values()})
"""Formats that are only decoded."""
NATIVE_KINDS = frozenset({"pdf", "xls", "xlsb", "parquet", "sqlite"})
"""Formats whose parsers are compiled code outside the standard library, or run a file's own schema."""
MIN_DECODED_AGAIN = 1_000_000
"""Bytes of a delimited file from which its text is not part of the result: the host decodes it again."""
MAX_GROUP_CHARS = 20_000_000
_PACKED = frozenset({".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".epub", ".parquet", ".zip"})
_HTML_START = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_MAIL_START = re.compile(rb"(?:[A-Za-z][A-Za-z0-9-]{0,60}:[ \t].*\r?\n(?:[ \t].*\r?\n)*){2,}")
_MAIL_NAMES = re.compile(rb"^(?:from|to|subject|date|received|message-id|return-path):", re.IGNORECASE | re.MULTILINE)


def convert(data: bytes, path: str, limits: Limits | None = None, encoding: str = "", *, again: bool = False) -> Plain:
    """Converts one source file, including everything packed inside it.

    Args:
        data: the file's bytes.
        path: its name as the user knows it; the ending helps to find the format.
        limits: upper bounds; the defaults when None.
        encoding: of text files, when the user named one.
        again: the caller can decode the file again, so that the result can do without the text of a large delimited file.

    Returns:
        ``{"documents": [...], "left_out": [[path, reason], ...], "missing": [package, ...]}``, see ``result``.
    """
    output = Output(limits or Limits())
    _add(data, path, output, encoding)
    first = output.documents[0] if len(output.documents) == 1 else None
    if first is not None and first.kind in ("csv", "tsv") and len(data) >= MIN_DECODED_AGAIN and again:
        output.own_text = first
    return output.plain()


def convert_group(
    data: bytes, members: Sequence[tuple[str, int, int]], limits: Limits, encoding: str = ""
) -> list[Plain | None]:
    """Converts small files that lie one after another in ``data``: the path, start and end of each.

    Returns:
        A result for each, or None for a file that needs a worker of its own: its parser is compiled code, or the texts of the
        files before it are too long.
    """
    results: list[Plain | None] = []
    chars = 0
    for path, start, end in members:
        output = Output(limits, shared=True)
        try:
            if chars > MAX_GROUP_CHARS:
                raise NeedsOwnWorkerError
            _add(bytes(data[start:end]), path, output, encoding)
        except NeedsOwnWorkerError:
            results.append(None)
            continue
        chars += sum(document.length for document in output.documents)
        results.append(output.plain())
    return results


def _add(data: bytes, path: str, output: Output, encoding: str = "") -> None:
    try:
        kind = find_kind(data, path)
        if output.shared and kind in NATIVE_KINDS:
            raise NeedsOwnWorkerError(kind)
        _run(kind, data, path, output, encoding)
    except NeedsOwnWorkerError:
        raise
    except LimitError as error:
        output.skip(path, f"stopped at a limit: {error}")
        if "!/" in path:
            raise
    except ConversionError as error:
        if isinstance(error, MissingPackageError):
            output.missing.append(error.package)
        output.skip(path, str(error))
    except RecursionError:
        output.skip(path, "nested too deeply")
    except MemoryError:
        output.skip(path, "needs more memory than the limit")
    except Exception as error:  # noqa: BLE001  a damaged file must not stop its siblings
        output.skip(path, f"damaged: {type(error).__name__}: {str(error)[:200]}")


def find_kind(data: bytes, path: str, size: int | None = None) -> str:
    """The format, from the first bytes, and from the name's ending if the bytes are text.

    Args:
        data: the file's bytes, or only its first 8,192; ZIP and compound files are then "container".
        size: of the whole file, when ``data`` is its head.

    Raises:
        ConversionError: the format is not read; the message names it.
    """
    ending = posixpath.splitext(path.lower())[1]
    head = data[:_HEAD_BYTES]
    if not data:
        raise ConversionError("empty file")
    whole = size is None or size == len(data)
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(data, ending) if whole else "container"
    if head.startswith(COMPOUND_MAGIC):
        return _compound_kind(data, ending) if whole else "container"
    if head[257:262] == b"ustar":
        return "tar"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if not _looks_text(head):
        raise ConversionError(f"not text: {_name_binary(head)}")
    return _text_kind(head, ending)


def is_image(head: bytes) -> bool:
    return head.startswith(_IMAGES) or head[8:12] == b"WEBP"


def _name_binary(head: bytes) -> str:
    if is_image(head):
        return "an image"
    return next((name for magic, name in _BINARY.items() if head.startswith(magic)), "an unknown binary format")


def _text_kind(head: bytes, ending: str) -> str:
    if ending in (".html", ".htm", ".xhtml") or (ending in ("", ".txt") and _HTML_START.match(head)):
        return "html"
    if ending in (".csv", ".tsv", ".ipynb", ".eml", ".mbox"):
        return ending[1:]
    if head.startswith(b"From ") and ending in ("", ".mbx"):
        return "mbox"
    if ending in ("", ".msg", ".txt") and _MAIL_START.match(head) and len(set(_MAIL_NAMES.findall(head))) >= 3:
        return "eml"
    if ending in (".xml", ".rss", ".atom", ".rdf", "") and feed.START.match(head):
        return "feed"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise ConversionError("a pointer of Git LFS; fetch the file itself with: git lfs pull")
    is_link = ending in _PACKED and b"\n" not in head.strip() and head.strip().endswith(ending.encode())
    if ending == ".pdf" or is_link:  # a link that was stored as a text
        start = " ".join(head[:60].decode("utf-8", "replace").split())
        raise ConversionError(f"damaged {ending[1:].upper()} file: it begins with the text {start!r}")
    return _KINDS.get(ending, "text")


def _zip_kind(data: bytes, ending: str) -> str:
    names = frozenset(Package(data, Output(Limits())).names)
    for part, kind in (("word/", "docx"), ("ppt/", "pptx"), ("xl/", "xlsx")):
        if "[Content_Types].xml" in names and any(name.startswith(part) for name in names):
            return "xlsb" if kind == "xlsx" and "xl/workbook.bin" in names else kind
    if "mimetype" in names:
        kind = Package(data, Output(Limits())).read("mimetype")[:100].decode("ascii", "replace").strip()
        for word, name in (("epub", "epub"), ("text", "odt"), ("spreadsheet", "ods"), ("presentation", "odp")):
            if kind.endswith((word, f"{word}+zip", f"{word}-template")):
                return name
    return ending[1:] if ending in (".docx", ".pptx", ".xlsx", ".epub", ".odt", ".ods", ".odp") else "zip"


def _compound_kind(data: bytes, ending: str) -> str:
    file = CompoundFile(data)
    if outlook.is_message(file):
        return "msg"
    if "Workbook" in file.streams or "Book" in file.streams:
        return "xls"
    if "EncryptedPackage" in file.streams:
        raise ConversionError("protected with a password")
    name = "Word 97-2003 document" if "WordDocument" in file.streams else f"binary Office file {ending}".strip()
    raise ConversionError(f"{name} is not read; save it in a current format")


def _looks_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return True
    odd, even = head[1::2].count(0), head[0::2].count(0)
    if (odd > 0.4 * len(head) / 2 and even == 0) or (even > 0.4 * len(head) / 2 and odd == 0):
        return True  # UTF-16 without a mark
    controls = sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in head)
    return b"\0" not in head and controls <= _MAX_CONTROL_SHARE * len(head)


def _attach(data: bytes, path: str, output: Output) -> None:
    if path.count("!/") > output.limits.depth:
        output.skip(path, f"nested more than {output.limits.depth} deep")
        return
    _add(data, path, output)


_CONVERTERS: dict[str, Callable[[bytes, str, Output], None]] = {
    "pdf": lambda data, path, output: pdf.convert(data, path, output, _attach),
    "docx": docx.convert, "pptx": pptx.convert, "xlsx": xlsx.convert, "epub": epub.convert,
    "feed": feed.convert, "ipynb": notebook.convert, "sqlite": sqlite.convert, "rtf": rtf.convert,
    "parquet": legacy.convert_parquet,
    "xls": lambda data, path, output: legacy.convert_workbook(data, path, output, "xls"),
    "xlsb": lambda data, path, output: legacy.convert_workbook(data, path, output, "xlsb"),
    "odt": lambda data, path, output: odf.convert(data, path, output, "odt"),
    "odp": lambda data, path, output: odf.convert(data, path, output, "odp"),
    "ods": lambda data, path, output: odf.convert(data, path, output, "ods"),
    "eml": lambda data, path, output: mail.convert(data, path, output, _attach),
    "mbox": lambda data, path, output: mail.convert_mailbox(data, path, output, _attach),
    "msg": lambda data, path, output: outlook.convert(data, path, output, _attach),
    "zip": lambda data, path, output: archive.convert_zip(data, path, output, _attach),
    "tar": lambda data, path, output: archive.convert_tar(data, path, output, _attach),
    "compressed": lambda data, path, output: archive.convert_compressed(data, path, output, _attach),
}  # fmt: skip


def _run(kind: str, data: bytes, path: str, output: Output, encoding: str) -> None:
    converter = _CONVERTERS.get(kind)
    if converter is not None:
        converter(data, path, output)
    elif kind in ("csv", "tsv"):
        delimited.convert(data, path, output, tab=kind == "tsv", encoding=encoding)
    elif kind == "html":
        html.convert(data, path, output, encoding)
    else:
        structured.convert(data, path, output, kind, encoding)
