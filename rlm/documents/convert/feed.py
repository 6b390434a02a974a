"""RSS and Atom feeds: every item is a place with its title, link, date, author and text."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from .html import page_text
from .packages import parse_xml, text_of
from .result import Builder, ConversionError, Output
from .structured import convert as convert_text

START = re.compile(
    rb"\s*(?:\xef\xbb\xbf)?(?:<\?xml[^>]{0,300}\?>\s*|<\?[^>]{0,500}\?>\s*|<!--.{0,2000}?-->\s*)*<(?:rss|feed|rdf:RDF)\b",
    re.DOTALL,
)
"""Start of a feed, by its root element."""
_FACTS = (
    ("Link", ("link",)), ("Date", ("pubDate", "published", "updated", "date")), ("Author", ("creator", "author")),
    ("Category", ("category",)),
)  # fmt: skip
_TEXTS = ("encoded", "content", "description", "summary")  # the fullest first


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a feed to ``output``. One that is not well-formed is added as it is."""
    try:
        root = parse_xml(data, "feed")
    except ConversionError as error:
        convert_text(data, path, output, "xml")
        output.documents[-1].note(f"shown as it is: {error}")
        return
    document = Builder(path, "feed")
    head = root.find("channel") if root.find("channel") is not None else root
    assert head is not None
    document.place("feed")
    _write(document, head, "#")
    for number, item in enumerate([*root.iter("item"), *root.iter("entry")], 1):
        document.place(f"item {number}")
        _write(document, item, "##")
        document.line()
    output.add(document)


def _write(document: Builder, item: Element, mark: str) -> None:
    title = _text(item.find("title"))
    document.line(f"{mark} {title}" if title else mark)
    for label, names in _FACTS:
        facts = [_fact(child) for name in names for child in item if child.tag == name]
        shown = ", ".join(dict.fromkeys(filter(None, facts[:20])))
        if shown:
            document.line(f"{label}: {shown}")
    bodies = [_text(child, keeps_lines=True) for name in _TEXTS for child in item if child.tag == name]
    body = next(filter(None, bodies), "")
    if body:
        document.line(f"\n{body}")


def _fact(element: Element) -> str:
    if element.tag == "link" and element.get("href"):
        return str(element.get("href")) if element.get("rel", "alternate") == "alternate" else ""
    name = element.find("name")  # of an Atom author
    return " ".join((text_of(element if name is None else name) or element.get("term", "")).split())


def _text(element: Element | None, *, keeps_lines: bool = False) -> str:
    """Visible text of an element, which often holds a page with escaped tags."""
    if element is None:
        return ""
    text = text_of(element)
    if "<" in text or "&" in text:
        text = page_text(text)[0]
    return text.strip() if keeps_lines else " ".join(text.split())
