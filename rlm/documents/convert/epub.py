"""Books (epub): chapters in reading order, each a place."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from .encodings import decode
from .html import page_text
from .packages import Package
from .result import Builder, ConversionError, Output


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of an epub file to ``output``."""
    package = Package(data, output)
    container = package.xml("META-INF/container.xml")
    rootfile = next(container.iter("rootfile"), None)
    if rootfile is None:
        raise ConversionError("the container names no package document")
    name = rootfile.get("full-path", "")
    root, folder = package.xml(name), posixpath.dirname(name)
    encrypted = _encrypted_parts(package)
    items = {item.get("id", ""): item for item in root.iter("item")}
    document = Builder(path, "epub")
    for tag in ("title", "creator", "language", "publisher", "date"):
        for item in root.iter(tag):
            if item.text and item.text.strip():
                document.line(f"{tag.title()}: {' '.join(item.text.split())}")
    document.line()
    chapters = 0
    seen = set[str]()
    references = [item.get("idref", "") for item in root.iter("itemref")]
    for reference in [key for key in references if key in items] or list(items):
        chapter = items[reference]
        if "html" not in chapter.get("media-type", "html"):
            continue
        href = unquote(chapter.get("href", "")).partition("#")[0]
        target = posixpath.normpath(posixpath.join(folder, href.lstrip("/") if href.startswith("/") else href))
        if target not in package:
            output.skip(f"{path}!/{target}"[:1_000], "the chapter is missing")
        elif target in encrypted:
            raise ConversionError("encrypted (digital rights management)")
        elif target not in seen:
            seen.add(target)
            text, _ = page_text(decode(package.read(target)))
            if text.strip():
                chapters += 1
                document.place(f"chapter {chapters}")
                document.line(text)
    document.pages = chapters
    output.add(document)


def _encrypted_parts(package: Package) -> frozenset[str]:
    """Parts that need a key. Obfuscated fonts are listed in the same file, and are not read anyway."""
    root = package.optional_xml("META-INF/encryption.xml")
    references = root.iter("CipherReference") if root is not None else ()
    return frozenset(unquote(item.get("URI", "")) for item in references)
