"""Rich Text Format: the text of the document, without its formatting."""

from __future__ import annotations

import re

from .result import Builder, Output

_TOKEN = re.compile(
    r"\\([a-z]{1,32})(-?\d{1,10})?[ ]?|\\'([0-9a-fA-F]{2})|\\([^a-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.IGNORECASE
)
_DESTINATIONS = frozenset(
    {"fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "themedata", "datastore", "listtable", "listoverridetable",
     "rsidtbl", "generator", "xmlnstbl", "latentstyles", "colorschememapping", "fldinst", "filetbl", "revtbl", "bkmkstart", "bkmkend"}
)  # fmt: skip
_WORDS = {"par": "\n", "line": "\n", "sect": "\n", "page": "\n", "tab": "\t", "cell": " | ", "row": "\n", "emdash": "—",
          "endash": "–", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•", "nestcell": " | "}  # fmt: skip
_STORIES = {"footnote": "Footnote", "header": "Header", "footer": "Footer", "annotation": "Comment", "headerl": "Header",
            "headerr": "Header", "headerf": "Header", "footerl": "Footer", "footerr": "Footer", "footerf": "Footer"}  # fmt: skip
_MAX_DEPTH = 10_000


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of an RTF file to ``output``."""
    document = Builder(path, "rtf")
    document.write(rtf_text(data.decode("latin-1")).strip() + "\n")
    output.add(document)


def rtf_text(source: str) -> str:
    """Text of RTF source. Footnotes, headers, footers and comments follow at the end."""
    parts: list[str] = []
    stories: list[str] = []
    target = parts
    stack: list[tuple[bool, int, list[str], str]] = []
    ignored, skip, pending, code_page, story = False, 1, 0, "cp1252", ""
    pending_bytes = bytearray()

    def flush() -> None:
        if pending_bytes:
            target.append(bytes(pending_bytes).decode(code_page, "replace"))
            pending_bytes.clear()

    for match in _TOKEN.finditer(source):
        word, number, hexadecimal, symbol, brace, text = match.groups()
        if not hexadecimal:
            flush()
        if brace == "{":
            if len(stack) < _MAX_DEPTH:
                stack.append((ignored, skip, target, story))
        elif brace == "}":
            if stack:
                old_story, old_target = story, target
                ignored, skip, target, story = stack.pop()
                if old_story and old_target is not target:
                    inner = " ".join("".join(old_target).split())
                    if inner:
                        stories.append(f"[{_STORIES[old_story]}] {inner}")
            pending = 0
        elif symbol == "*":
            ignored = True
        elif word is not None:
            name = word.lower()
            if name in _STORIES:
                story, target, ignored = name, [], False
            elif name in _DESTINATIONS:
                ignored = True
            elif name == "ansicpg" and number:
                code_page = _code_page(number)
            elif name == "uc" and number:
                skip = max(0, min(int(number), 10))
            elif name == "u" and number and not ignored:
                value = int(number) % 65_536
                target.append(chr(value))
                pending = skip
            elif not ignored and name in _WORDS:
                target.append(_WORDS[name])
        elif ignored:
            continue
        elif hexadecimal:
            if pending:
                pending -= 1
            else:
                pending_bytes.append(int(hexadecimal, 16))
        elif symbol:
            target.append({"~": "\xa0", "-": "", "_": "-"}.get(symbol, symbol if symbol in "\\{}" else ""))
        elif text:
            if pending:
                text, pending = text[pending:], max(0, pending - len(text))
            target.append(text)
    flush()
    joined = "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "\n".join([joined, *stories])


def _code_page(number: str) -> str:
    name = f"cp{number}"
    try:
        "".encode(name)
    except LookupError:
        return "cp1252"
    return name
