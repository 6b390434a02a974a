"""HTML becomes the text that a reader of the page sees, in its order."""

from __future__ import annotations

import pytest

from rlm.documents.convert.html import page_text


def shown(markup: str) -> str:
    return page_text(markup)[0].strip()


def test_cells_reach_into_shorter_rows() -> None:
    markup = (
        "<table><tr><th rowspan=2>Region</th><th colspan=2>Sales</th><th rowspan=2>Total</th></tr><tr><th>Q1</th><th>Q2</th></tr>"
        "<tr><td>USA</td><td>1</td><td>2</td><td>3</td></tr></table>"
    )
    assert shown(markup).splitlines()[2:] == ["| Region | Q1 | Q2 | Total |", "| USA | 1 | 2 | 3 |"]


def test_spans_end_with_their_rows() -> None:
    markup = "<table><tr><td rowspan=3>a</td><td>b</td></tr><tr></tr><tr><td>c</td></tr><tr><td>d</td><td>e</td></tr></table>"
    assert shown(markup).splitlines()[-2:] == ["| a | c |", "| d | e |"]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<a href='/a'>Docs</a><a href='/b'>Blog</a>", "Docs Blog"),
        ("<button>Save</button><button>Cancel</button>", "Save Cancel"),
        ("<p>see<a href='/a'>this</a>.</p>", "seethis."),
        ("<ul><li><a href='#'><div>Top</div></a></li><li><p>Next</p></li></ul>", "- Top\n- Next"),
        ("<ul><li><ul><li>deep</li></ul></li></ul>", "-\n  - deep"),
        ("<ol start=3><li>a<li value=7>b<li>c</ol>", "3. a\n7. b\n8. c"),
        ("<dl><dt>Term<dd>Meaning</dl>", "Term\nMeaning"),
        ("10<sup>6</sup> m<sup>2</sup> H<sub>2</sub>O note<sup>[1]</sup>", "10^6 m^2 H2O note[1]"),
        ("co&shy;operate &amp; &nbsp;&euro;5 &#8211; &lt;b&gt;", "cooperate & \xa0€5 – <b>"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<q>yes</q>", "“yes”"),
        ("<details><summary>More</summary><p>inside</p></details>", "More\n\ninside"),
        ("<select><option>red<option selected>green</select>!", "green !"),
        ("<select><option>first</option><option>second</option></select>", "first"),
        ("<label>Name <input value='Eve'></label><input type=hidden value=x><input type=checkbox checked>ok", "Name Eve ☒ ok"),
        ("<input placeholder='Search'>", "Search"),
        ("<textarea>typed</textarea>", "typed"),
        ("<div><template shadowrootmode=open><p>shadow</p></template></div><template>no</template>", "shadow"),
        ("<dialog>closed</dialog><dialog open>open</dialog>", "open"),
        ("<svg><title>t</title><defs>x</defs><text>Axis</text><text>2024</text></svg>", "Axis\n\n2024"),
        ("so <math><mi>x</mi><mo>=</mo><mn>2</mn><annotation>x=2</annotation></math>", "so x=2"),
        ("so <math alttext='x^2'><mi>x</mi><mn>2</mn></math> holds", "so x^2 holds"),
        ("<noscript>enable it</noscript><video>no</video>text", "text"),
    ],
)  # fmt: skip
def test_visible_text(markup: str, text: str) -> None:
    assert shown(markup) == text


def test_titles_are_read_once() -> None:
    assert page_text("<title>Page</title><svg><title>Icon</title></svg><p>x") == ("x\n", "Page")
