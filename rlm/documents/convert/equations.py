"""Office equations (OMML) as linear text: ``(a+b)/c``, ``x^2``, ``√(n)``."""

from __future__ import annotations

from collections.abc import Iterator

from .packages import Element

_MAX_DEPTH = 100


def equation_text(element: Element, depth: int = 0) -> str:
    """Text of an ``oMath`` element or of a part of it."""
    return "".join(_parts(element, depth))


def _parts(parent: Element, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        return
    for child in parent:
        if child.tag == "t":
            yield child.text or ""
        elif child.tag in _FORMS:
            yield _FORMS[child.tag](_Reader(child, depth + 1))
        elif not child.tag.endswith("Pr"):
            yield from _parts(child, depth + 1)


class _Reader:
    """Named arguments of one construct."""

    def __init__(self, element: Element, depth: int) -> None:
        self.element = element
        self._depth = depth

    def text(self, tag: str) -> str:
        child = self.element.find(tag)
        return "" if child is None else equation_text(child, self._depth)

    def group(self, tag: str) -> str:
        """An argument, in parentheses unless it is a single name or number."""
        text = self.text(tag)
        return text if text.isalnum() or not text else f"({text})"

    def texts(self, tag: str) -> list[str]:
        return [equation_text(child, self._depth) for child in self.element.findall(tag)]

    def sign(self, name: str, default: str) -> str:
        properties = self.element.find(f"{self.element.tag}Pr/{name}")
        return default if properties is None else properties.get("val", default)


def _scripts(part: _Reader) -> str:
    lower, upper = part.group("sub"), part.group("sup")
    return (f"_{lower}" if lower else "") + (f"^{upper}" if upper else "")


def _root(part: _Reader) -> str:
    degree = part.text("deg")
    return f"{f'{degree}' if degree else ''}√({part.text('e')})"


def _matrix(part: _Reader) -> str:
    rows = [", ".join(_Reader(row, 1).texts("e")) for row in part.element.findall("mr")]
    return f"[{'; '.join(rows)}]"


def _delimited(part: _Reader) -> str:
    inner = part.sign("sepChr", "|").join(part.texts("e"))
    return f"{part.sign('begChr', '(')}{inner}{part.sign('endChr', ')')}"


_FORMS = {
    "f": lambda part: f"{part.group('num')}/{part.group('den')}",
    "sSup": lambda part: part.group("e") + _scripts(part),
    "sSub": lambda part: part.group("e") + _scripts(part),
    "sSubSup": lambda part: part.group("e") + _scripts(part),
    "sPre": lambda part: _scripts(part) + part.group("e"),
    "rad": _root,
    "nary": lambda part: f"{part.sign('chr', '∫')}{_scripts(part)} {part.text('e')}",
    "func": lambda part: f"{part.text('fName')}({part.text('e')})",
    "limLow": lambda part: f"{part.text('e')}_({part.text('lim')})",
    "limUpp": lambda part: f"{part.text('e')}^({part.text('lim')})",
    "eqArr": lambda part: "; ".join(part.texts("e")),
    "m": _matrix,
    "d": _delimited,
}
