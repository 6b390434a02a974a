"""Text of drawings in office files: charts as tables, SmartArt diagrams, alternative texts of images."""

from __future__ import annotations

from collections.abc import Iterator

from .packages import Element, Package
from .result import ConversionError, LimitError, markdown_table

_MAX_POINTS = 10_000
Relations = dict[str, tuple[str, str]]


def image_text(properties: Element | None) -> str:
    """Marker with the alternative text of an image; empty without one."""
    described = "" if properties is None else properties.get("descr") or properties.get("title") or ""
    return f"[Image: {' '.join(described.split())}]" if described.strip() else ""


def drawing_blocks(package: Package, element: Element, relations: Relations) -> Iterator[str]:
    """Charts and diagrams that a drawing refers to. Damaged parts are left out."""
    for child in element.iter():
        key, kind = {
            "chart": (child.get("id", ""), "chart"), "relIds": (child.get("dm", ""), "diagram"),
        }.get(child.tag, ("", ""))  # fmt: skip
        what, target = relations.get(key, ("", "")) if key else ("", "")
        if target not in package or what not in ("chart", "chartEx", "diagramData"):
            continue
        try:
            root = package.xml(target)
        except LimitError:
            raise
        except ConversionError:
            continue
        yield chart_text(root) if kind == "chart" else diagram_text(root)


def chart_text(root: Element) -> str:
    """Title, axis titles, and the values of all series as a table."""
    lines = []
    chart = root.find("chart")
    title = None if chart is None else chart.find("title")
    lines.append(f"[Chart] {_joined(title)}".rstrip())
    plot = None if chart is None else chart.find("plotArea")
    if plot is None:
        return lines[0]
    axes = [text for axis in plot for text in [_joined(axis.find("title"))] if text]
    if axes:
        lines.append("Axes: " + ", ".join(axes))
    columns: dict[tuple[str, ...], dict[str, dict[int, str]]] = {}
    for at, series in enumerate(plot.iter("ser"), 1):
        labels = _points(series.find("cat") if series.find("cat") is not None else series.find("xVal"))
        values = _points(series.find("val") if series.find("val") is not None else series.find("yVal"))
        name = " ".join(_points(series.find("tx")).values()) or f"Series {at}"
        numbers = sorted({*labels, *values})
        key = tuple(labels.get(number, str(number + 1)) for number in numbers)
        columns.setdefault(key, {})[name] = {row: values.get(number, "") for row, number in enumerate(numbers)}
    for labels_of, series_of in columns.items():
        rows = [["", *series_of]]
        rows += [[label, *(values[row] for values in series_of.values())] for row, label in enumerate(labels_of)]
        lines.append("\n" + markdown_table(rows))
    return "\n".join(lines) + "\n"


def _points(data: Element | None) -> dict[int, str]:
    """Cached values by position; the levels of a multi-level category are joined."""
    points: dict[int, str] = {}
    if data is None:
        return points
    for point in data.iter("pt"):
        index, value = point.get("idx", ""), point.find("v")
        if index.isdigit() and value is not None and value.text and len(points) < _MAX_POINTS:
            number = int(index)
            points[number] = f"{value.text} {points[number]}" if number in points else value.text
    if not points:
        direct = data.find("v")
        if direct is not None and direct.text:
            points[0] = direct.text
    return points


def _joined(element: Element | None) -> str:
    return "" if element is None else " ".join("".join(item.text or "" for item in element.iter("t")).split())


def diagram_text(root: Element) -> str:
    """Texts of a SmartArt diagram, indented by their level."""
    texts, parents = dict[str, str](), dict[str, str]()
    for point in root.iter("pt"):
        body = point.find("t")
        text = "" if body is None else " / ".join(filter(None, (_joined(item) for item in body.findall("p"))))
        texts[point.get("modelId", "")] = text
    for link in root.iter("cxn"):
        if link.get("type", "parOf") == "parOf":
            parents[link.get("destId", "")] = link.get("srcId", "")
    children: dict[str, list[str]] = {}
    for key, parent in parents.items():
        children.setdefault(parent, []).append(key)
    lines, seen = ["[Diagram]"], set[str]()
    waiting = [(key, 0) for key in reversed(texts) if parents.get(key) not in texts]
    while waiting:
        key, level = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        if texts.get(key):
            lines.append("  " * min(level, 10) + "- " + texts[key])
        waiting.extend((child, level + bool(texts.get(key))) for child in reversed(children.get(key, [])))
    lines += [f"- {text}" for key, text in texts.items() if text and key not in seen]
    return "\n".join(lines)
