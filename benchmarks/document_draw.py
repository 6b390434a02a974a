"""Random sentences and rows, with the record of what a reader should find."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

WORDS = (
    "harbour contract supplier delivery penalty invoice clause annex governing liability notice amendment schedule "
    "warehouse efficient office affirm finance workflow baffle shipment premium coverage deductible tenant lease"
).split()
TYPOGRAPHY = ("Zürich", "naïve", "Ångström", "façade", "señor", "Łódź", "50 °C", "€ 75", "“quoted”", "§ 12")


@dataclass
class Truth:
    """Facts that a reader of one file should return: sentences and rows, each with its page, slide or sheet."""

    needles: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[list[str], str]] = field(default_factory=list)


class Draw:
    """Random content that is unique to a file."""

    def __init__(self, seed: str, truth: Truth) -> None:
        self.random = random.Random(seed)
        self.truth = truth
        self.count = 0

    def sentence(self, place: str = "", *, latin: bool = False) -> str:
        self.count += 1
        words = self.random.choices(WORDS, k=9)
        if not latin:
            words[4] = self.random.choice(TYPOGRAPHY)
        text = f"Item {self.random.randrange(10**6, 10**7)} of the {' '.join(words)} is due."
        self.truth.needles.append((text, place))
        return text

    def rows(self, place: str = "", count: int = 6) -> list[list[str]]:
        rows = [
            [
                f"R{self.random.randrange(10**5, 10**6)}",
                self.random.choice(WORDS).title(),
                str(self.random.randrange(10, 9999)),
            ]
            for _ in range(count)
        ]
        self.truth.rows.extend((row, place) for row in rows)
        return [["Key", "Name", "Amount"], *rows]
