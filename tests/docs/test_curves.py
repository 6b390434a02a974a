"""The page of curves: well-formed, escaped, and complete."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.curves_page import Curve, Point, draw, draw_page

POINTS = [Point(0, "none", 0.2, 0.2), Point(100, "<100>", 3.0, 0.5, "a & b"), Point(1e6, "1,000,000", 40.0, None)]
CURVE = Curve("Calls <script>", "calls & more", "raw sockets", POINTS, {"peer": [(10, 1.0), (100, 700.0)]})


def test_chart_is_well_formed_svg() -> None:
    chart = ElementTree.fromstring(draw(CURVE))
    assert len(chart.findall("polyline")) == 2
    assert len(chart.findall("circle")) == 2
    texts = [item.text for item in chart.findall("text")]
    assert {"<100>", "1,000,000", "calls & more", "this engine", "raw sockets", "peer", "1000 s"} <= set(texts)
    width, height = 640, 340
    for circle in chart.findall("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= width
        assert 0 <= float(circle.attrib["cy"]) <= height


def test_page_escapes_and_shows_ratios() -> None:
    page = draw_page([CURVE], "two <processors>")
    assert "<script>" not in page
    assert "two &lt;processors&gt;" in page
    assert "<td>6.00</td><td>a &amp; b</td>" in page


def test_curve_of_one_point_is_drawn() -> None:
    assert "polyline" in draw(Curve("One", "x", "ideal", [Point(1, "1", 0.5, None)]))
