"""Excel workbooks (xlsx, xlsm): values as shown, with dates, percentages, currencies, merged and hidden cells."""

from __future__ import annotations

import re
from typing import Any
from xml.parsers import expat

from .drawings import drawing_blocks, image_text
from .number_formats import Formatter, read_formats
from .packages import Package, text_of
from .result import Builder, ConversionError, Output
from .tables import write_sheet

_MAX_COLUMNS = 16_384
_MAX_EMPTY_ROWS = 50  # of a gap that are shown
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a workbook to ``output``; every sheet is a place and a table."""
    package = Package(data, output)
    main = next(
        (target for what, target in package.relations("").values() if what == "officeDocument"), "xl/workbook.xml"
    )
    relations = package.relations(main)
    workbook = package.xml(main)
    properties = workbook.find("workbookPr")
    from_1904 = properties is not None and properties.get("date1904") in ("1", "true")
    strings = _shared_strings(package, relations)
    styles = next((package.optional_xml(target) for what, target in relations.values() if what == "styles"), None)
    formats = read_formats(styles, from_1904=from_1904)
    document = Builder(path, "xlsx")
    sheets = workbook.find("sheets")
    for sheet in sheets if sheets is not None else ():
        what, target = relations.get(sheet.get("id", ""), ("", ""))
        if what == "chartsheet" and target in package:
            document.place(f"sheet {sheet.get('name', '')}")
            document.line(f"## {sheet.get('name', '')} (chart sheet)")
            _drawings(package, target, document)
        if what != "worksheet" or target not in package:
            continue
        reader = _SheetReader(strings, formats, output.limits.rows)
        reader.read(package.read(target), target)
        name = sheet.get("name", "")
        hidden = sheet.get("state", "visible") != "visible"
        rows, numbers = reader.grid()
        write_sheet(document, name, rows, numbers, " (hidden sheet)" if hidden else "")
        _notes(document, name, reader, hidden=hidden)
        _comments(package, target, document)
        _drawings(package, target, document)
    output.add(document)


def _notes(document: Builder, name: str, reader: _SheetReader, *, hidden: bool) -> None:
    if hidden:
        document.note(f"sheet {name} is hidden; its rows are included")
    if reader.hidden_rows:
        document.note(f"sheet {name}: {reader.hidden_rows:,} hidden rows are included")
    if reader.hidden_columns:
        document.note(f"sheet {name}: {reader.hidden_columns:,} hidden columns are included")
    if reader.uncomputed:
        document.note(f"sheet {name}: {reader.uncomputed:,} formulas have no stored value; the formula is shown")
    if reader.merged:
        document.note(f"sheet {name}: {reader.merged:,} merged ranges; the value is repeated in each cell")
    if reader.cut:
        document.note(f"sheet {name}: only the first {reader.cut:,} rows are read")


def _comments(package: Package, sheet: str, document: Builder) -> None:
    for what, target in package.relations(sheet).values():
        if what == "comments" and target in package:
            for comment in package.xml(target).iter("comment"):
                text = " ".join(text_of(comment).split())
                document.line(f"[Comment at {comment.get('ref', '')}] {text}")


def _drawings(package: Package, sheet: str, document: Builder) -> None:
    """Charts, diagrams, text boxes and alternative texts that lie over the cells."""
    for what, target in package.relations(sheet).values():
        if what != "drawing" or target not in package:
            continue
        root, relations = package.xml(target), package.relations(target)
        for block in drawing_blocks(package, root, relations):
            document.line(block)
        for body in root.iter("txBody"):
            text = " ".join("".join(item.text or "" for item in body.iter("t")).split())
            if text:
                document.line(f"[Text box] {text}")
        for properties in root.iter("cNvPr"):
            if image_text(properties):
                document.line(image_text(properties))


def _unescape(text: str) -> str:
    """Characters for the escapes of control characters and carriage returns, for instance ``_x000D_``."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).replace("\r\n", "\n") if "_x" in text else text


def _shared_strings(package: Package, relations: dict[str, tuple[str, str]]) -> list[str]:
    target = next((target for what, target in relations.values() if what == "sharedStrings"), "")
    if target not in package:
        return []
    strings: list[str] = []
    parts: list[str] = []
    reading = phonetic = False

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal reading, phonetic
        tag = tag.rpartition("}")[2]
        if tag == "si":
            parts.clear()
        elif tag == "rPh":
            phonetic = True
        reading = tag == "t" and not phonetic

    def end(tag: str) -> None:
        nonlocal reading, phonetic
        tag = tag.rpartition("}")[2]
        if tag == "si":
            strings.append(_unescape("".join(parts)))
        elif tag == "rPh":
            phonetic = False
        reading = False

    def characters(text: str) -> None:
        if reading:
            parts.append(text)

    _parse(package.read(target), target, start, end, characters)
    return strings


def _parse(data: bytes, name: str, start: Any, end: Any, characters: Any) -> None:
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters

    def refuse(*_: object) -> None:
        raise ConversionError(f"{name} declares XML entities, which are refused")

    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ConversionError(f"malformed {name}: {error}") from error


class _SheetReader:
    """Cells of one sheet, read with a streaming parser: 150,000 rows take no tree of elements."""

    def __init__(self, strings: list[str], formats: list[Formatter | None], max_rows: int) -> None:
        self._strings = strings
        self._formats = formats
        self._max_rows = max_rows
        self._rows: dict[int, dict[int, Any]] = {}
        self._merges: list[str] = []
        self._cells: dict[int, Any] = {}
        self._row = self._column = 0
        self._style: Formatter | None = None
        self._type = ""
        self._text: list[str] = []
        self._formula: list[str] = []
        self._reading: list[str] | None = None
        self._phonetic = False
        self.hidden_rows = self.hidden_columns = self.uncomputed = 0
        self.cut = 0

    @property
    def merged(self) -> int:
        return len(self._merges)

    def read(self, data: bytes, name: str) -> None:
        _parse(data, name, self._start, self._end, self._characters)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        if tag == "c":
            reference = attributes.get("r", "")
            match = _REFERENCE.fullmatch(reference)
            self._column = column_number(match.group(1)) if match else self._column + 1
            style = attributes.get("s", "")
            self._style = self._formats[int(style)] if style.isdigit() and int(style) < len(self._formats) else None
            self._type = attributes.get("t", "n")
            self._text.clear()
            self._formula.clear()
        elif tag == "v" or (tag == "t" and not self._phonetic):
            self._reading = self._text
        elif tag == "f":
            self._reading = self._formula
        elif tag == "rPh":
            self._phonetic = True
        elif tag == "col" and attributes.get("hidden") in ("1", "true"):
            first, last = attributes.get("min", ""), attributes.get("max", "")
            if first.isdigit() and last.isdigit():
                self.hidden_columns += max(min(int(last), _MAX_COLUMNS) - int(first) + 1, 0)
        elif tag == "row":
            number = attributes.get("r", "")
            self._row = int(number) if number.isdigit() else self._row + 1
            self._column = -1
            self._cells = {}
            self.hidden_rows += attributes.get("hidden") in ("1", "true")
        elif tag == "mergeCell":
            self._merges.append(attributes.get("ref", ""))

    def _characters(self, text: str) -> None:
        if self._reading is not None:
            self._reading.append(text)

    def _end(self, tag: str) -> None:
        tag = tag.rpartition("}")[2]
        if tag in ("v", "t", "f"):
            self._reading = None
        elif tag == "rPh":
            self._phonetic = False
        elif tag == "c":
            if self._text and self._column < _MAX_COLUMNS:
                self._cells[self._column] = self._value("".join(self._text))
            elif self._formula and self._column < _MAX_COLUMNS:
                self._cells[self._column] = "=" + "".join(self._formula)
                self.uncomputed += 1
        elif tag == "row" and self._cells:
            if len(self._rows) < self._max_rows:
                self._rows[self._row] = self._cells
            else:
                self.cut = self._max_rows

    def _value(self, text: str) -> Any:
        kind = self._type
        if kind == "s":
            index = int(text) if text.isdigit() else -1
            return self._strings[index] if 0 <= index < len(self._strings) else ""
        if kind == "b":
            return text.strip() == "1"
        if kind in ("str", "inlineStr"):
            return _unescape(text)
        if kind == "e":
            return text
        if kind == "d":
            return text.removesuffix("T00:00:00").replace("T", " ")
        try:
            number = float(text)
        except ValueError:
            return text
        if self._style is not None:
            return self._style(number)
        return int(number) if number.is_integer() and abs(number) < 1e15 else number

    def grid(self) -> tuple[list[list[Any]], list[int]]:
        """Rows from the first to the last that is filled, and their numbers; merged values are repeated."""
        for merge in self._merges[:10_000]:
            self._fill(merge)
        if not self._rows:
            return [], []
        grid: list[list[Any]] = []
        numbers: list[int] = []
        before = min(self._rows) - 1
        for number in sorted(self._rows):
            empty = min(number - before - 1, _MAX_EMPTY_ROWS)
            grid.extend([] for _ in range(empty))
            numbers.extend(range(before + 1, before + 1 + empty))
            cells = self._rows[number]
            row: list[Any] = [None] * (max(cells) + 1)
            for column, value in cells.items():
                row[column] = value
            grid.append(row)
            numbers.append(number)
            before = number
        left = min(
            (next((at for at, value in enumerate(row) if value is not None), _MAX_COLUMNS) for row in grid if row),
            default=0,
        )
        return [row[left:] for row in grid], numbers

    def _fill(self, merge: str) -> None:
        ends = [_REFERENCE.fullmatch(part) for part in merge.split(":")]
        if len(ends) != 2 or ends[0] is None or ends[1] is None:
            return
        (left, top), (right, bottom) = ((column_number(end.group(1)), int(end.group(2))) for end in ends if end)
        value = self._rows.get(top, {}).get(left)
        if value is None or (right - left + 1) * (bottom - top + 1) > 10_000:
            return
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                self._rows.setdefault(row, {}).setdefault(column, value)


def column_number(letters: str) -> int:
    """Position of a column; "A" is 0."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1
