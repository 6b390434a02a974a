"""Reference leaf: a ``Model`` that reads without error, or with an exact error rate.

It answers the prompts of ``program.py`` by lookup: labels in the item's truth, other facts in the text. With ``noise``, that
share of all facts is wrong. The same facts are wrong in any order of calls.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping

from rlm.core.errors import RequestRejectedError
from rlm.core.messages import Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.testing.prefix import estimate_tokens

Truth = Mapping[str, str]
"""True label of every text."""

NOTHING = "NONE"


def read(prompt: str, truth: Truth, *, noise: float = 0.0, seed: int = 0) -> str:
    """Reply to one prompt of the reference program.

    Raises:
        ValueError: an unknown prompt.
    """
    misread = _Noise(noise, seed)
    head, _, text = prompt.partition("\n\nText:\n")
    if "which of the labels it has" in prompt:
        return _label(prompt, truth, misread)
    if head.startswith("What are all the special magic values for "):
        return _find_needles(head, text, misread)
    if head.startswith("List every assignment"):
        assignments = re.findall(r"^VAR \w+ = (?:VAR )?\w+", text, re.MULTILINE)
        return "\n".join(line for line in assignments if not misread(line)) or NOTHING
    if head.startswith("Count how often each word"):
        counts = Counter(word for word in text.split() if not re.fullmatch(r"\d+\.|\.+", word))
        return "\n".join(f"{word}: {count + misread(word)}" for word, count in counts.items())
    if head.startswith("Give these fields"):
        return _give_fields(head, text, misread)
    raise ValueError(f"the prompt must be one of the reference program's; got {prompt[:120]!r}")


class _Noise:
    """Errors of the leaf, seeded by each fact's own text and so independent of the order of calls."""

    def __init__(self, noise: float, seed: int) -> None:
        self._noise = noise
        self._seed = seed

    def __call__(self, thing: str) -> bool:
        return self._noise > 0 and self.draw(thing).random() < self._noise

    def draw(self, thing: str) -> random.Random:
        return random.Random(f"{self._seed}/{thing}")  # noqa: S311  reproducible, not secret


def _label(prompt: str, truth: Truth, misread: _Noise) -> str:
    labels = sorted(set(truth.values()))
    lines = []
    for number, line in re.findall(r"^(\d+)\. (.*)$", prompt, re.MULTILINE):
        text = line.strip()
        label = truth[text]
        if misread(text) and len(labels) > 1:
            label = misread.draw(f"other {text}").choice([other for other in labels if other != label])
        lines.append(f"{number}: {label}")
    return "\n".join(lines)


def _find_needles(head: str, text: str, misread: _Noise) -> str:
    asked = re.match(r"What are all the special magic values for (.*) mentioned in", head)
    keys = asked[1].split(", ") if asked else []
    needles = re.findall(r"special magic \w+ for (\S+) is: ([^\s.]+)\.", text)
    lines = [f"{key} = {value}" for key, value in needles if key in keys and not misread(f"{key} {value}")]
    return "\n".join(dict.fromkeys(lines)) or NOTHING


def _give_fields(head: str, text: str, misread: _Noise) -> str:
    fields = head.partition("record below: ")[2].partition(". Reply")[0].split(", ")
    records = [json.loads(line) for line in text.splitlines() if line]
    return "\n".join(
        json.dumps({field: record[field] for field in fields}, ensure_ascii=False)
        for record in records
        if not misread(record["cveID"])
    )


class ReferenceLeaf:
    """``read`` as a ``Model``.

    Args:
        truth: the label of every text in the prompts.
        noise: the share of misread facts.
        seed: selects the misread facts.
    """

    def __init__(self, truth: Truth | None = None, *, noise: float = 0.0, seed: int = 0) -> None:
        self._read: Callable[[str], str] = lambda prompt: read(prompt, truth or {}, noise=noise, seed=seed)
        self.name = "reference:leaf" if not noise else f"reference:leaf-{noise:g}"
        self.info = ModelInfo(window_tokens=128_000)

    async def ask(self, request: Request) -> Reply:
        """Answers a leaf prompt.

        Raises:
            RequestRejectedError: the prompt does not belong to the reference program.
        """
        prompt = request.messages[-1].text
        try:
            text = self._read(prompt)
        except (ValueError, KeyError) as error:
            raise RequestRejectedError(f"{self.name}: {error}", model=self.name) from error
        return Reply(text, Usage(1, estimate_tokens(prompt), output_tokens=estimate_tokens(text)), self.name)

    async def aclose(self) -> None:
        """Does nothing: there are no resources."""
