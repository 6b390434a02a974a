"""Rich Text Format: the text of the document, without its formatting."""

from __future__ import annotations

import re
from dataclasses import field, replace

from rlm.core.values import slotted

from .result import Builder, Output

_TOKEN = re.compile(
    r"\\([a-z]{1,32})(-?\d{1,10})?[ ]?|\\'([0-9a-fA-F]{2})|\\([^a-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.IGNORECASE
)
_WRAPPED = re.compile(
    r"(\\[a-z]{1,32}-?\d{0,10})?(?<=[a-z0-9,.;:!)}])(?<!\\'[0-9a-f]{2})\r?\n(?=[a-z0-9(\"'])", re.IGNORECASE
)
_HEADING = re.compile("\0([0-8])")
_DESTINATIONS = frozenset(
    {"fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "themedata", "datastore", "listtable", "listoverridetable",
     "rsidtbl", "generator", "xmlnstbl", "latentstyles", "colorschememapping", "fldinst", "filetbl", "revtbl", "bkmkstart",
     "bkmkend"}
)  # fmt: skip
_WORDS = {"par": "\n", "line": "\n", "sect": "\n", "page": "\n", "tab": "\t", "cell": " | ", "row": "\n", "emdash": "—",
          "endash": "–", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•",
          "nestcell": " | "}  # fmt: skip
_STORIES = {"footnote": "Footnote", "header": "Header", "footer": "Footer", "annotation": "Comment", "headerl": "Header",
            "headerr": "Header", "headerf": "Header", "footerl": "Footer", "footerr": "Footer", "footerf": "Footer"}  # fmt: skip
_MAX_DEPTH = 10_000
_SYMBOLS = {"~": "\xa0", "-": "", "_": "-", "\\": "\\", "{": "{", "}": "}"}


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of an RTF file to ``output``."""
    document = Builder(path, "rtf")
    document.write(rtf_text(data.decode("latin-1")).strip() + "\n")
    output.add(document)


def rtf_text(source: str) -> str:
    """Text of RTF source. Footnotes, headers, footers and comments follow at the end."""
    breaks = [
        match.start() - source.rfind("\n", 0, match.start()) for match in _WRAPPED.finditer(source) if not match[1]
    ]
    if breaks and max(breaks) > min(breaks):  # wrapped between words; at a fixed column, the break is inside of words
        source = _WRAPPED.sub(lambda match: match[0] if match[1] else " ", source)
    reader = _Reader()
    for match in _TOKEN.finditer(source):
        reader.read(match)
    return reader.text()


@slotted
class _Group:
    """State of a brace group: what is inside it is ignored, or is a story of its own."""

    ignored: bool = False
    fallback_chars: int = 1
    story: str = ""
    target: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self) -> None:
        self._main: list[str] = []
        self._stories: list[str] = []
        self._group = _Group(target=self._main)
        self._stack: list[_Group] = []
        self._code_page = "cp1252"
        self._bytes = bytearray()
        self._footnotes = 0
        self._skip = 0  # characters that repeat a Unicode character for old readers

    def text(self) -> str:
        self._flush()
        joined = "".join(self._main).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return "\n".join([*map(_with_heading, joined.split("\n")), *self._stories])

    def read(self, match: re.Match[str]) -> None:
        word, number, hexadecimal, symbol, brace, text = match.groups()
        if not hexadecimal:
            self._flush()
        if brace:
            self._open() if brace == "{" else self._close()
        elif word is not None:
            self._word(word.lower(), number)
        elif symbol == "*":
            self._group.ignored = True
        elif not self._group.ignored:
            self._characters(hexadecimal, symbol, text)

    def _open(self) -> None:
        if len(self._stack) < _MAX_DEPTH:
            self._stack.append(self._group)
            self._group = replace(self._group, story="")

    def _close(self) -> None:
        self._skip = 0
        if not self._stack:
            return
        closed, self._group = self._group, self._stack.pop()
        inner = " ".join("".join(closed.target).split()) if closed.story else ""
        if inner:
            number = f" {self._footnotes}" if closed.story == "footnote" and self._footnotes else ""
            self._stories.append(f"[{_STORIES[closed.story]}{number}] {inner}")

    def _word(self, name: str, number: str | None) -> None:
        group = self._group
        if name in _STORIES:
            group.story, group.target, group.ignored = name, [], False
        elif name in _DESTINATIONS:
            group.ignored = True
        elif name == "ansicpg" and number:
            self._code_page = _code_page(number)
        elif name == "uc" and number:
            group.fallback_chars = max(0, min(int(number), 10))
        elif name == "u" and number and not group.ignored:
            group.target.append(chr(int(number) % 65_536))
            self._skip = group.fallback_chars
        elif name == "chftn" and group.target is self._main and not group.ignored:
            self._footnotes += 1
            group.target.append(f"[^{self._footnotes}]")
        elif (
            name == "outlinelevel"
            and group.target is self._main
            and not group.ignored
            and (number or "") in "012345678"
        ):
            group.target.append(f"\0{number or 0}")
        elif name in _WORDS and not group.ignored:
            group.target.append(_WORDS[name])

    def _characters(self, hexadecimal: str | None, symbol: str | None, text: str | None) -> None:
        if hexadecimal and self._skip:
            self._skip -= 1
        elif hexadecimal:
            self._bytes.append(int(hexadecimal, 16))
        elif symbol:
            self._group.target.append(_SYMBOLS.get(symbol, ""))
        elif text:
            skipped = min(self._skip, len(text))
            self._skip -= skipped
            self._group.target.append(text[skipped:])

    def _flush(self) -> None:
        if self._bytes:
            self._group.target.append(bytes(self._bytes).decode(self._code_page, "replace"))
            self._bytes.clear()


def _with_heading(line: str) -> str:
    levels = _HEADING.findall(line)
    text = _HEADING.sub("", line).replace("\0", "")
    return f"{'#' * (int(levels[-1]) + 1)} {text.strip()}" if levels and text.strip() else text


def _code_page(number: str) -> str:
    name = f"cp{number}"
    try:
        "".encode(name)
    except LookupError:
        return "cp1252"
    return name
