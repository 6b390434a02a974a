"""Labels of numbered and bulleted lists in Word documents: "1.", "a)", "2.3.1"."""

from __future__ import annotations

import re

from .packages import Element

_BULLET = "- "
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
          (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


class Numbering:
    """Counts the paragraphs of every list, level by level."""

    def __init__(self, root: Element | None) -> None:
        self._levels: dict[str, dict[int, tuple[str, str, int]]] = {}
        self._counts: dict[str, list[int]] = {}
        self._abstract: dict[str, str] = {}
        for item in root if root is not None else ():
            if item.tag == "abstractNum":
                self._levels[item.get("abstractNumId", "")] = dict(map(_read_level, item.findall("lvl")))
        for item in root if root is not None else ():
            if item.tag == "num":
                self._read_list(item)

    def _read_list(self, item: Element) -> None:
        key, reference = item.get("numId", ""), item.find("abstractNumId")
        abstract = "" if reference is None else reference.get("val", "")
        overrides = item.findall("lvlOverride")
        if overrides:
            levels = dict(self._levels.get(abstract, {}))
            for override in overrides:
                depth = int(override.get("ilvl", "0"))
                first = override.find("startOverride")
                if first is not None and depth in levels:
                    form, text, _ = levels[depth]
                    levels[depth] = (form, text, int(first.get("val", "1")))
                levels.update(map(_read_level, override.findall("lvl")))
            abstract = f"{abstract}/{key}"
            self._levels[abstract] = levels
        self._abstract[key] = abstract

    def next_label(self, list_id: str, depth: int) -> str:
        """Label of the next paragraph of a list, with indentation by depth; a bullet if the list is unknown."""
        abstract = self._abstract.get(list_id, "")
        levels = self._levels.get(abstract, {})
        form, text, start = levels.get(depth, ("bullet", "", 1))
        indent = "  " * depth
        if form in ("bullet", "none") or not text:
            return indent + _BULLET
        counts = self._counts.setdefault(abstract, [0] * 9)
        counts[depth] = counts[depth] + 1 if counts[depth] else start
        for deeper in range(depth + 1, 9):
            counts[deeper] = 0

        def number(match: re.Match[str]) -> str:
            level = int(match.group(1)) - 1
            own, _, first = levels.get(level, ("decimal", "", 1))
            return ordinal(counts[level] or first, own)

        return indent + re.sub(r"%([1-9])", number, text) + " "


def _read_level(level: Element) -> tuple[int, tuple[str, str, int]]:
    def value(tag: str, default: str) -> str:
        child = level.find(tag)
        return default if child is None else child.get("val", default)

    start = value("start", "1")
    return int(level.get("ilvl", "0")), (
        value("numFmt", "decimal"),
        value("lvlText", ""),
        int(start) if start.isdigit() else 1,
    )


def ordinal(number: int, form: str) -> str:
    """A number in the form of a list, for instance "iv" for 4 in "lowerRoman"."""
    if form in ("lowerLetter", "upperLetter") and 0 < number < 1_000:
        letter = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letter.upper() if form == "upperLetter" else letter
    if form in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        roman = ""
        for value, sign in _ROMAN:
            count, number = divmod(number, value)
            roman += sign * count
        return roman.upper() if form == "upperRoman" else roman
    return f"{number:02d}" if form == "decimalZero" else str(number)
