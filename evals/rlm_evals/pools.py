"""Source material of the tasks: labelled texts, records and running text, packed or in the user's folder.

Redistributable sources are in ``rlm_evals/data`` (see CREDITS.md there). Other sources are read from a folder of the caller, as
``SOURCE.tsv`` with lines of ``label<TAB>text`` or as the published files:

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
    """Wording and sizes of a source: ``each`` names one row, and ``rule`` introduces the labels.

    ``tokens`` is (tokens of the frame, tokens of a row). The values of trec_coarse, spam and agnews are the paper's. The others
    were measured with the o200k vocabulary over all texts and rounded up.
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

# Six classes as in TREC, from three sources: the merged name of each label.
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

MIN_CHARS = 8  # shorter texts, such as "none", have both labels in a source


class Pools:
    """Source material of all tasks.

    Args:
        folder: sources that are not packed with this package; None for packed sources only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._labelled: dict[str, dict[str, list[str]]] = {}

    def texts(self, source: str) -> dict[str, list[str]]:
        """Usable texts of a source by label, in a fixed order: unique, and with exactly one label.

        Raises:
            ConfigurationError: an unknown or missing source.
        """
        if source not in self._labelled:
            self._labelled[source] = _group_by_label(self._read(source))
        return self._labelled[source]

    @cached_property
    def records(self) -> list[dict[str, object]]:
        """CISA's records of exploited vulnerabilities."""
        return [json.loads(line) for line in _unpack("kev_cve.jsonl").splitlines()]

    @cached_property
    def prose(self) -> list[str]:
        """Paragraphs for haystacks: ``haystack.txt`` in the user's folder, otherwise Moby-Dick."""
        own = self.folder / "haystack.txt" if self.folder else None
        text = own.read_text(encoding="utf-8") if own and own.exists() else _unpack("moby_dick.txt")
        return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]

    @cached_property
    def words(self) -> list[str]:
        """Distinct plain words in alphabetical order, for word lists and needle keys."""
        words = {
            word.strip(".,;:!?\"'()-—“”‘’") for paragraph in self.prose for word in paragraph.replace("—", " ").split()
        }
        return sorted(
            word for word in words if word.isascii() and word.isalpha() and word.islower() and 4 <= len(word) <= 10
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
        raise ConfigurationError(f"the source of a task must be one of {', '.join(SOURCES)}; got {source!r}.")

    def _read_own(self, source: str) -> Iterable[LabelledText]:
        if self.folder and (path := self.folder / f"{source}.tsv").exists():
            return _parse_tsv(path.read_text(encoding="utf-8"))
        if self.folder and source == "trec_coarse" and (path := self.folder / "train_5500.label").exists():
            return _parse_trec(path.read_text(encoding="latin-1"))
        for name in ("train.csv", "test.csv"):
            if self.folder and source == "agnews" and (path := self.folder / name).exists():
                return _parse_agnews(path)
        place = f"in {self.folder}" if self.folder else "without a data folder"
        published = {"trec_coarse": "train_5500.label", "agnews": "train.csv"}[source]
        raise ConfigurationError(
            f"the source {source} was not found {place}, and it cannot be redistributed with this package. Put {published} as "
            f"published, or {source}.tsv with lines of label<TAB>text, in a folder and pass --data FOLDER."
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


def _group_by_label(rows: Iterable[LabelledText]) -> dict[str, list[str]]:
    """Groups texts by label. Drops ambiguous and very short texts, and those with the separator of OOLONG's rows."""
    labels: dict[str, set[str]] = {}
    for label, text in rows:
        clean = " ".join(text.split())
        if len(clean) >= MIN_CHARS and "||" not in clean:
            labels.setdefault(clean, set()).add(label)
    groups: dict[str, list[str]] = {}
    for text, names in labels.items():
        if len(names) == 1:
            groups.setdefault(next(iter(names)), []).append(text)
    return {label: sorted(groups[label]) for label in sorted(groups)}


@cache
def _unpack(name: str) -> str:
    packed = resources.files("rlm_evals.data").joinpath(f"{name}.xz").read_bytes()
    return lzma.decompress(packed).decode()
