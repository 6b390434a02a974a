"""Number formats of Excel cells: dates, times, percentages, currencies and grouped numbers, as shown."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import TypeAlias

from .packages import Element

Formatter: TypeAlias = Callable[[float], object]

_BUILT_IN = {
    1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 14: "yyyy-mm-dd", 15: "d-mmm-yy",
    16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss", 22: "yyyy-mm-dd h:mm",
    37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss", 49: "@",
    5: "$#,##0", 6: "$#,##0", 7: "$#,##0.00", 8: "$#,##0.00", 42: "$#,##0", 44: "$#,##0.00",
    **dict.fromkeys((27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58), "yyyy-mm-dd"),  # of East Asian locales
    **dict.fromkeys((32, 34, 55), "h:mm"), **dict.fromkeys((33, 35, 56), "h:mm:ss"),
}  # fmt: skip
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\]|\$)[^\]]*\]', re.IGNORECASE)
_CURRENCY = re.compile(r"\[\$([^\]-]*)(?:-[^\]]*)?\]|([$€£¥₹₽₩₺₪₴฿₫₦])")


def read_formats(styles: Element | None, *, from_1904: bool) -> list[Formatter | None]:
    """One formatter for each cell style; None for numbers shown as they are."""
    custom: dict[int, str] = {}
    numbers = None if styles is None else styles.find("numFmts")
    for item in numbers if numbers is not None else ():
        custom[_int(item.get("numFmtId"))] = item.get("formatCode", "")
    cells = None if styles is None else styles.find("cellXfs")
    formatters: dict[str, Formatter | None] = {}
    formats: list[Formatter | None] = []
    for item in cells if cells is not None else ():
        number = _int(item.get("numFmtId"))
        code = custom.get(number, _BUILT_IN.get(number, ""))
        if code not in formatters:
            formatters[code] = make_formatter(code, from_1904=from_1904)
        formats.append(formatters[code])
    return formats


def _int(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def make_formatter(code: str, *, from_1904: bool = False) -> Formatter | None:
    """The formatter of a format code such as ``#,##0.00 "EUR"``; None if it changes nothing."""
    section = _sections(code)[0] if code else ""
    if not section or section.lower() in ("general", "@"):
        return None
    bare = _LITERAL.sub("", section)
    lowered = re.sub(r"\[\$[^\]]*\]", "", bare).lower()
    if re.search(r"[ymdhs]", lowered.replace("am/pm", "").replace("[red]", "")):
        return _date_formatter(lowered, from_1904=from_1904)
    decimals = len(match.group(1)) if (match := re.search(r"\.([0#?]+)", bare)) else 0
    if "%" in bare:
        return lambda number: f"{number * 100:.{decimals}f}%"
    currency = _CURRENCY.search(section)
    quoted = re.search(
        r'"([^"]*(?:EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|JPY|€|\$|£|¥|₺|₪|₴|zł|Kč|kr|Ft|lei|Fr\.)[^"]*)"', section
    )
    sign = (currency.group(1) or currency.group(2) or "") if currency else quoted.group(1).strip() if quoted else ""
    if sign:
        behind = section.find(sign) > max(section.rfind("0"), section.rfind("#"))
        return lambda number: _money(number, decimals, sign, behind=behind)
    return None


def _money(number: float, decimals: int, sign: str, *, behind: bool) -> str:
    text = f"{abs(number):,.{decimals}f}"
    text = f"{text} {sign}" if behind else f"{sign}{text}"
    return f"-{text}" if number < 0 else text


def _sections(code: str) -> list[str]:
    sections, quoted, start = [], False, 0
    for at, sign in enumerate(code):
        if sign == '"':
            quoted = not quoted
        elif sign == ";" and not quoted:
            sections.append(code[start:at])
            start = at + 1
    return [*sections, code[start:]]


def _date_formatter(code: str, *, from_1904: bool) -> Formatter:
    elapsed = re.search(r"\[[hms]+\]", code)
    has_date = bool(re.search(r"[yd]", code)) or ("m" in code and not re.search(r"[hs]", code))
    has_time = bool(re.search(r"[hs]", code))
    epoch = datetime.datetime(1904, 1, 1) if from_1904 else datetime.datetime(1899, 12, 30)

    def show(number: float) -> object:
        if elapsed:
            seconds = round(number * 86_400)
            return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        try:
            moment = epoch + datetime.timedelta(days=number)
        except OverflowError:
            return number
        moment = (moment + datetime.timedelta(milliseconds=500)).replace(microsecond=0)
        if not from_1904 and number < 60 and has_date:
            moment += datetime.timedelta(days=1)  # Excel counts a 29 February 1900
        if has_date and has_time:
            return (
                moment.strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00")
                if "s" not in code
                else moment.strftime("%Y-%m-%d %H:%M:%S")
            )
        return moment.strftime("%Y-%m-%d") if has_date else moment.strftime("%H:%M:%S" if "s" in code else "%H:%M")

    return show
