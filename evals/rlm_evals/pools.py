"""Labelled texts, records and running text: the raw material of the tasks, packed with this package or in the user's folder.

What may be redistributed lies in ``rlm/evals/data`` (see CREDITS.md there). Other sources are read from a folder that the
caller names: ``SOURCE.tsv`` with lines of ``label<TAB>text``, or the published files themselves:

    trec_coarse    train_5500.label (TREC question classification, Li and Roth 2002; its two-level labels are shortened)
    agnews         train.csv or test.csv (AG News, Zhang et al. 2015: class, title, description)
"""

from __future__ import annotations

import csv
import json
import lzma
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from rlm.core.errors import ConfigurationError

LabelledText = tuple[str, str]
"""(label, text)"""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a window says of its rows: ``each`` names one, ``rule`` how labels are meant; ``tokens`` as in OOLONG's sizes.

    ``tokens`` is (of the frame, of a row). Those of trec_coarse, spam and agnews are the paper's own; the others were
    measured with the o200k vocabulary over all texts and rounded up.
    """

    things: str
    each: str
    rule: str
    tokens: tuple[int, int]
    own_folder: bool = False


SOURCES: Mapping[str, SourceFacts] = MappingProxyType(
    {
        "spam": SourceFacts("text messages", "text message", "can be classified as", (142, 57)),
        "polarity": SourceFacts("sentences of film reviews", "sentence", "expresses an opinion that is", (142, 43)),
        "subjectivity": SourceFacts(
            "sentences about films",
            "sentence",
            "is either subjective (the writer's opinion) or objective (what happens in the film), so it can be classified as",
            (160, 46),
        ),
        "proscons": SourceFacts(
            "phrases from product reviews",
            "phrase",
            "was listed by its writer, for or against the product, as a",
            (150, 30),
        ),
        "mixed": SourceFacts(
            "short texts",
            "text",
            "is one of 6 kinds (a phrase for or against a product, a critic's opinion of a film, a sentence of a film's plot, "
            "a personal text message, an advertising text message):",
            (190, 39),
        ),
        "trec_coarse": SourceFacts(
            "general-knowledge questions",
            "question",
            "has an answer that can be described as one of 6 categories:",
            (168, 39),
            True,
        ),
        "agnews": SourceFacts("news articles", "article", "belongs to one of 4 topics:", (168, 90), True),
    }
)

_PACKED = {
    "spam": "sms_spam",
    "polarity": "cornell_polarity",
    "subjectivity": "cornell_subjectivity",
    "proscons": "liu_pros_cons",
}

# Six classes as in TREC, from three sources: what each of their labels is called when they are merged.
_MIXED = {
    "proscons": {"pro": "product advantage", "con": "product drawback"},
    "subjectivity": {"subjective": "film opinion", "objective": "film plot"},
    "spam": {"ham": "personal message", "spam": "advertising message"},
}

_TREC_LABELS = {
    "ABBR": "abbreviation",
    "ENTY": "entity",
    "DESC": "description and abstract concept",
    "HUM": "human being",
    "LOC": "location",
    "NUM": "numeric value",
}
_AGNEWS_LABELS = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}

MIN_CHARS = 8  # "none" and its kin stand under both labels of a source


class Pools:
    """All material that tasks draw from.

    Args:
        folder: where sources lie that are not packed with this package; None where there are none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._labelled: dict[str, dict[str, list[str]]] = {}

    def texts(self, source: str) -> dict[str, list[str]]:
        """The usable texts of a source by label, in a fixed order: whole, unique, and under one label alone.

        Raises:
            ConfigurationError: an unknown source, or one that is not there.
        """
        if source not in self._labelled:
            self._labelled[source] = _sort_out(self._read(source))
        return self._labelled[source]

    @cached_property
    def records(self) -> list[dict[str, object]]:
        """CISA's records of exploited vulnerabilities."""
        return [json.loads(line) for line in _unpack("kev_cve.jsonl").splitlines()]

    @cached_property
    def prose(self) -> list[str]:
        """Paragraphs of running text, for haystacks: ``haystack.txt`` in the user's folder, else Moby-Dick."""
        own = self.folder / "haystack.txt" if self.folder else None
        text = own.read_text(encoding="utf-8") if own and own.exists() else _unpack("moby_dick.txt")
        return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]

    @cached_property
    def words(self) -> list[str]:
        """Distinct plain words, in alphabetical order, for lists of words and names of needles."""
        found = {
            word.strip(".,;:!?\"'()-—“”‘’") for paragraph in self.prose for word in paragraph.replace("—", " ").split()
        }
        return sorted(
            word for word in found if word.isascii() and word.isalpha() and word.islower() and 4 <= len(word) <= 10
        )

    def _read(self, source: str) -> Iterable[LabelledText]:
        if source in _PACKED:
            return _parse_tsv(_unpack(f"{_PACKED[source]}.tsv"))
        if source == "mixed":
            return [
                (name, text)
                for part, names in _MIXED.items()
                for label, name in names.items()
                for text in self.texts(part)[label]
            ]
        if source in SOURCES:
            return self._read_own(source)
        raise ConfigurationError(f"unknown source {source!r}. Known: {', '.join(SOURCES)}.")

    def _read_own(self, source: str) -> Iterable[LabelledText]:
        if self.folder and (path := self.folder / f"{source}.tsv").exists():
            return _parse_tsv(path.read_text(encoding="utf-8"))
        if self.folder and source == "trec_coarse" and (path := self.folder / "train_5500.label").exists():
            return _parse_trec(path.read_text(encoding="latin-1"))
        for name in ("train.csv", "test.csv"):
            if self.folder and source == "agnews" and (path := self.folder / name).exists():
                return _parse_agnews(path)
        where = f"in {self.folder}" if self.folder else "(no folder was named)"
        published = {"trec_coarse": "train_5500.label", "agnews": "train.csv"}[source]
        raise ConfigurationError(
            f"{source} may not be redistributed, so it does not come with this package, and it is not {where}. Put {published} "
            f"as published, or {source}.tsv with lines of label<TAB>text, in a folder and name that folder: --data FOLDER."
        )


def _parse_tsv(text: str) -> Iterable[LabelledText]:
    for line in text.splitlines():
        label, tab, content = line.partition("\t")
        if tab:
            yield label.strip(), content


def _parse_trec(text: str) -> Iterable[LabelledText]:
    for line in text.splitlines():
        label, _, question = line.partition(" ")
        name = _TREC_LABELS.get(label.partition(":")[0])
        if name:
            yield name, question


def _parse_agnews(path: Path) -> Iterable[LabelledText]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            if len(row) >= 3 and row[0] in _AGNEWS_LABELS:
                yield _AGNEWS_LABELS[row[0]], f"{row[1]} {row[2]}"


def _sort_out(rows: Iterable[LabelledText]) -> dict[str, list[str]]:
    """Drops texts that stand under two labels, that hold the separator of OOLONG's rows, or that say nothing."""
    labels: dict[str, set[str]] = {}
    for label, text in rows:
        clean = " ".join(text.split())
        if len(clean) >= MIN_CHARS and "||" not in clean:
            labels.setdefault(clean, set()).add(label)
    found: dict[str, list[str]] = {}
    for text, names in labels.items():
        if len(names) == 1:
            found.setdefault(next(iter(names)), []).append(text)
    return {label: sorted(found[label]) for label in sorted(found)}


@cache
def _unpack(name: str) -> str:
    packed = resources.files("rlm_evals.data").joinpath(f"{name}.xz").read_bytes()
    return lzma.decompress(packed).decode()
