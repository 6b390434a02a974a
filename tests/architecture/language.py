"""Checks docstrings, documents and test names against the language rule of this project.

    python -m tests.architecture.language              every violation
    python -m tests.architecture.language FILES        every violation in these files or folders

The rule:

1. The first line of a docstring is a noun phrase, or a verb with its object. It never starts with a question word.
2. No word that stands for a plainer one: see ``ODD_WORDS`` for each word and its replacement.
3. A sentence has at most 25 words. A sentence with both a colon and a semicolon becomes a list.
4. A test name has at most eight words.
5. The entries of lists, tables and diagrams end with a period. Read as plain text, nothing between two periods or colons has
   more than 32 words.

For rules 1 to 3, code blocks, tables, doctests and ``inline code`` are not prose. A list item and an entry of an ``Args:``
section each begin a sentence of their own. Inline code counts as one word.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("rlm", "evals", "benchmarks", "examples", "tests")
MAX_WORDS = 25
MAX_TEST_NAME_WORDS = 8
MAX_PLAIN_WORDS = 32

OPENING = re.compile(r"(What|Where|Who|Whose|Whom|How|Whether|Which|Of|When|Why)\b")
ODD_WORDS = {
    r"(that|which) (is|are|was|were) none": "say what the thing is instead",
    r"(is|are) none of": "must be one of; got",
    r"(?<!there )(is|are|was|were) no (?!longer|more|less|fewer|later|earlier|better|worse|match)\w+": "is not a",
    r"(?<!\bor )(?<!thing )(?<!one )(?<!body )(?<!where )(?<!what )(?<!all )(?<!much )else": "otherwise",
    r"or else": "otherwise",
    r"may": "can, might, or must not",
    r"so many": "that many",
    r"(told|tells|telling)": "notified, shown, reports",
    r"(taken|takes|take|taking|took) up": "resumed, resumes",
    r"begun": "started",
    r"anew": "again, retried, re-executed",
    r"whoever": "a caller that, a process that",
    r"nobody": "nothing, no caller",
    r"(till|hears|heard|hearing|foresight|rehearsal)": "the field's own term",
}
PLAIN_ODD_WORDS = re.compile(
    r"\b(that is none|is none of|taken up|begun|anew|whoever|nobody|told of|so many|is no [A-Z]\w+)\b"
)
"""Words that no docstring has, in code and tables either."""
_ODD = [(re.compile(rf"\b{pattern}\b", re.IGNORECASE), better) for pattern, better in ODD_WORDS.items()]
# "where" is right after a place, a verb of finding, or a preposition; after anything else it stands for "if".
_WHERE = re.compile(r"(?P<before>[\w`'-]+,?|[.;:(])\s+where\b|^where\b", re.IGNORECASE)
_PLACE = re.compile(
    r"(places?|positions?|points?|offsets?|index|lines?|columns?|files?|folders?|director(y|ies)|paths?|address(es)?|"
    r"machines?|hosts?|process(es)?|sections?|platforms?|systems?|environments?|containers?|names?|from|to|and|or|"
    r"is|know|knows|find|finds|found|say|says|show|shows|mark|marks|decides?|exactly|near|stands?|just|state|one|"
    r"code|module|layer|tests?|loops?|branch|spot|site|of|about)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"""(?<=[.!?])(?:["')\]*]*)\s+(?=["'(\[*]*[A-Z0-9`])""")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|al|approx|resp|No)\.(?=\s)")
_INLINE_CODE = re.compile(r"``.+?``|`[^`]+`", re.DOTALL)
_SECTION = re.compile(
    r"(Args|Arguments|Attributes|Returns|Yields|Raises|Parameters|Keyword Args|Examples?|Notes?|Warnings?|"
    r"References|Usage|Source|See also):$"
)
_CODE_SECTIONS = frozenset({"Example", "Examples", "Usage"})
_ENTRY = re.compile(r"\*{0,2}[\w.\[\], |]+(?: \([^)]*\))?:(?:\s|$)")
_BULLET = re.compile(r"(?:[-*+•]|\(?\d+[.)]|\(?[a-z][.)])\s+")
_TABLE_ROW = re.compile(r"^\s*(\|.*|[=+-]{3,}(\s+[=+-]{2,})*\s*|.*\S(\s{3,}|\t)\S.*)$")


@dataclass(frozen=True)
class Violation:
    """One breach of the rule, with the place and the text that breaks it."""

    path: str
    line: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}: {self.text[:110]}"


def check_source(source: str, path: str) -> Iterator[Violation]:
    """Yields the violations of one file, given its text."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            words = node.name.removeprefix("test_").split("_")
            if len(words) > MAX_TEST_NAME_WORDS:
                yield Violation(path, line, f"a test name of {len(words)} words", node.name)
        if doc := ast.get_docstring(node):
            for reason, text in (*check_docstring(doc), *check_plain_text(doc)):
                yield Violation(path, line, reason, text)


def check_document(text: str, path: str) -> Iterator[Violation]:
    """Yields the violations of rules 2 and 3 in a Markdown file."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = _LINK.sub("`\\1`", "\n".join("" if line.startswith("#") else line for line in text.splitlines()))
    for paragraph in paragraphs(text):
        for sentence in sentences(paragraph):
            for reason, place in _check_sentence(sentence):
                yield Violation(path, 1, reason, place)


def check_docstring(doc: str) -> Iterator[tuple[str, str]]:
    """Yields a reason and the offending text for every breach in one docstring."""
    if opening := OPENING.match(doc.lstrip("`\"'")):
        yield f"opens with {opening[0]!r}", doc.splitlines()[0]
    for sentence in sentences(doc):
        yield from _check_sentence(sentence)


def _check_sentence(sentence: str) -> Iterator[tuple[str, str]]:
    yield from _check_words(sentence)
    count = len([word for word in sentence.split() if any(character.isalnum() for character in word)])
    if count > MAX_WORDS:
        yield f"a sentence of {count} words", sentence
    if re.search(r":\s", sentence) and re.search(r";\s", sentence):
        yield "both a colon and a semicolon", sentence


def check_plain_text(doc: str) -> Iterator[tuple[str, str]]:
    """Yields the breaches in a docstring that is read without its markup."""
    if match := PLAIN_ODD_WORDS.search(doc):
        yield repr(match[0]), doc.splitlines()[0]
    for part in re.split(r"(?<=[.!?:])\s", " ".join(doc.split())):
        if (count := len(part.split())) > MAX_PLAIN_WORDS:
            yield f"{count} words without a period", part


def _check_words(sentence: str) -> Iterator[tuple[str, str]]:
    for pattern, better in _ODD:
        if match := pattern.search(sentence):
            yield f"{match[0]!r} (write: {better})", sentence
    for match in _WHERE.finditer(sentence):
        before = match["before"]
        if not before or not _PLACE.fullmatch(before.strip(",`'")):
            yield "'where' after no place (write: if, when)", sentence


def sentences(doc: str) -> Iterator[str]:
    """Yields the sentences of a docstring's prose, with inline code replaced by one word each."""
    for paragraph in paragraphs(doc):
        text = _INLINE_CODE.sub("CODE", paragraph)
        text = _ABBREVIATION.sub(lambda match: match[0].replace(".", ""), text)
        yield from filter(None, (part.strip() for part in _SENTENCE_END.split(" ".join(text.split()))))


def paragraphs(doc: str) -> Iterator[str]:
    """Yields pieces of prose: paragraphs, list items and section entries, without code blocks and tables."""
    collector = _Paragraphs()
    for line in doc.splitlines():
        yield from collector.add(line)
    yield from collector.flush()


class _Paragraphs:
    """Groups the lines of a docstring into paragraphs, one line at a time."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._fenced = False
        self._section: str | None = None
        self._item_indent: int | None = None  # of the list item or entry that indented lines continue

    def add(self, line: str) -> Iterator[str]:
        """Takes one line; yields the paragraph that it ends, if any."""
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if text.startswith(("```", "~~~")):
            self._fenced = not self._fenced
            yield from self.flush()
        elif (
            self._fenced
            or text.startswith((">>>", "... "))
            or (text and _TABLE_ROW.match(line.strip("\n")))
            or not text
        ):
            yield from self.flush()
        elif _SECTION.match(text):
            yield from self.flush()
            self._section, self._item_indent = text[:-1], None
        else:
            yield from self._add_text(text, indent)

    def _add_text(self, text: str, indent: int) -> Iterator[str]:
        if indent == 0:
            self._section = None
        in_section = self._section is not None and self._section not in _CODE_SECTIONS
        bullet = _BULLET.match(text)
        entry = (
            _ENTRY.match(text) if in_section and (self._item_indent is None or indent <= self._item_indent) else None
        )
        if bullet or entry:
            yield from self.flush()
            self._item_indent = indent
            text = text[(bullet or entry).end() :]  # type: ignore[union-attr]
        elif indent and not in_section and (self._item_indent is None or indent <= self._item_indent):
            yield from self.flush()  # an indented block outside lists and sections is code
            return
        elif not indent and self._item_indent is not None:
            yield from self.flush()
            self._item_indent = None
        if text.endswith("::"):
            text = text[:-1]
        self._lines.append(text)

    def flush(self) -> Iterator[str]:
        """Yields the open paragraph, if any."""
        if self._lines:
            yield " ".join(self._lines)
        self._lines = []


def documents() -> list[str]:
    """Returns the Markdown files that the rule covers, relative to the project."""
    return sorted(path.relative_to(ROOT).as_posix() for pattern in ("*.md", "*/*.md") for path in ROOT.glob(pattern))


def project_files() -> list[str]:
    """Returns the Python files that the rule covers, relative to the project."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts)


def check_files(paths: Iterable[str]) -> list[Violation]:
    """Returns the violations in files given relative to the project."""
    return [item for path in paths for item in check_source((ROOT / path).read_text(encoding="utf-8"), path)]


def check_documents() -> list[Violation]:
    """Returns the violations in all documents."""
    return [item for path in documents() for item in check_document((ROOT / path).read_text(encoding="utf-8"), path)]


def _expand(arguments: list[str]) -> list[str]:
    wanted = [(Path.cwd() / argument).resolve() for argument in arguments]
    chosen = []
    for path in project_files():
        full = ROOT / path
        if any(full == item or item in full.parents for item in wanted):
            chosen.append(path)
    return chosen


def main(arguments: list[str]) -> int:
    """Runs the command line given in the module's docstring."""
    paths = _expand(arguments) if arguments else project_files()
    violations = check_files(paths) + ([] if arguments else check_documents())
    print("\n".join(map(str, violations)))
    print(f"{len(violations)} violations in {len({item.path for item in violations})} of {len(paths)} files")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
