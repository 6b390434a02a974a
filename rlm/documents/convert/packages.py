"""Bounded reading of ZIP packages (docx, pptx, xlsx, odt, epub) and of their XML parts."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.parsers import expat

from .result import ConversionError, LimitError, Output

Element = ElementTree.Element
CHUNK = 1 << 20
MAX_RATIO = 1_000  # compressed text of office files stays below 200
MIN_BOMB_BYTES = 50_000_000
_MAX_DEPTH = 1_000
_PLAIN_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml(?:(?!encoding)[^>])*(?:encoding\s*=\s*[\"'](?:utf-8|us-ascii)[\"'][^>]*)?\?>|<[A-Za-z!])",
    re.IGNORECASE,
)


class Package:
    """A ZIP file whose members are decompressed within the limits of ``output``."""

    def __init__(self, data: bytes, output: Output) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError) as error:
            raise ConversionError(f"damaged ZIP structure: {error}") from error
        self._size = len(data)
        self._output = output
        self._names = {info.filename: info for info in self._zip.infolist()}
        output.charge(0, len(self._names))

    @property
    def names(self) -> list[str]:
        return list(self._names)

    def infos(self) -> Iterator[zipfile.ZipInfo]:
        yield from self._names.values()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> bytes:
        """Bytes of one member.

        Raises:
            ConversionError: it is missing, encrypted or damaged.
            LimitError: it unpacks to too much.
        """
        info = self._names.get(name)
        if info is None:
            raise ConversionError(f"part {name} is missing")
        if info.flag_bits & 1:
            raise ConversionError("encrypted with a password")
        pieces, total = [], 0
        try:
            with self._zip.open(info) as member:
                while piece := member.read(CHUNK):
                    total += len(piece)
                    self._output.charge(len(piece))
                    if total > MIN_BOMB_BYTES and total > MAX_RATIO * max(info.compress_size, 1):
                        raise LimitError(f"{name} is a decompression bomb")
                    pieces.append(piece)
        except (
            zipfile.BadZipFile,
            zipfile.LargeZipFile,
            OSError,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise ConversionError(f"damaged part {name}: {error}") from error
        except Exception as error:  # zlib.error, lzma errors
            if isinstance(error, ConversionError):
                raise
            raise ConversionError(f"damaged part {name}: {error}") from error
        return b"".join(pieces)

    def xml(self, name: str) -> Element:
        return parse_xml(self.read(name), name)

    def optional_xml(self, name: str) -> Element | None:
        return self.xml(name) if name in self._names else None

    def relations(self, name: str) -> dict[str, tuple[str, str]]:
        """Relationship targets of a part: id to (type's last word, path in the package or address)."""
        folder, base = posixpath.split(name)
        root = self.optional_xml(f"{folder}/_rels/{base}.rels" if folder else f"_rels/{base}.rels")
        targets: dict[str, tuple[str, str]] = {}
        for item in root if root is not None else ():
            target = item.get("Target", "")
            if item.get("TargetMode") != "External":
                target = target[1:] if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            targets[item.get("Id", "")] = (item.get("Type", "").rpartition("/")[2], target)
        return targets


def parse_xml(data: bytes, name: str = "XML") -> Element:
    """The root element. Entity declarations are refused: they expand without bound.

    Raises:
        ConversionError: the text is malformed or declares entities.
    """
    if not _PLAIN_START.match(data) or b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        return _parse_guarded(data, name)
    try:
        root = ElementTree.fromstring(data)  # noqa: S314  without a DOCTYPE there are no entities
    except ElementTree.ParseError as error:
        raise ConversionError(f"malformed {name}: {error}") from error
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ConversionError(f"{name} nests more than {_MAX_DEPTH:,} elements")
        for element in level:
            element.tag = _qualified(element.tag)
            if any("}" in key for key in element.attrib):
                attributes = [(_qualified(key), value) for key, value in element.attrib.items()]
                element.attrib.clear()
                element.attrib.update(attributes)
        level = [child for element in level for child in element]
    return root


def _parse_guarded(data: bytes, name: str) -> Element:
    """The root element of text that has a DOCTYPE or an uncommon encoding."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise ConversionError(f"{name} nests more than {_MAX_DEPTH:,} elements")
        builder.start(_qualified(tag), {_qualified(key): value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_qualified(tag))

    def refuse(*_: object) -> None:
        raise ConversionError(f"{name} declares XML entities, which are refused")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except expat.ExpatError as error:
        raise ConversionError(f"malformed {name}: {error}") from error
    except AssertionError as error:
        raise ConversionError(f"malformed {name}: no element") from error


_KNOWN: dict[str, str] = {}


def _qualified(name: str) -> str:
    """Local name of an element or attribute; namespaces of office formats do not collide within one part."""
    short = _KNOWN.get(name)
    if short is None:
        short = name.rpartition("}")[2]
        if len(_KNOWN) < 10_000:
            _KNOWN[name] = short
    return short


def text_of(element: Element) -> str:
    return "".join(element.itertext())
