"""The reference leaf: reads without error, or with an error rate to the digit. The ``Model`` port without a model.

It answers the prompts of ``program.py`` by looking the truth up: labels in the item's own, everything else in the text. With
``noise`` it is wrong in that share of all things it reads, and always in the same ones, whatever the order of calls.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping

from rlm.core.errors import RequestRejectedError
from rlm.core.messages import Reply, Request, Usage
from rlm.testing.prefix import estimate_tokens

Truth = Mapping[str, str]
"""The label of every text."""

NOTHING = "NONE"


def read(prompt: str, truth: Truth, *, noise: float = 0.0, seed: int = 0) -> str:
    """The reply to one prompt of the reference program.

    Raises:
        ValueError: it is none of them.
    """
    careless = _Careless(noise, seed)
    head, _, text = prompt.partition("\n\nText:\n")
    if "which of the labels it has" in prompt:
        return _label(prompt, truth, careless)
    if head.startswith("What are all the special magic values for "):
        return _find_needles(head, text, careless)
    if head.startswith("List every assignment"):
        found = re.findall(r"^VAR \w+ = (?:VAR )?\w+", text, re.MULTILINE)
        return "\n".join(line for line in found if not careless(line)) or NOTHING
    if head.startswith("Count how often each word"):
        counts = Counter(word for word in text.split() if not re.fullmatch(r"\d+\.|\.+", word))
        return "\n".join(f"{word}: {count + careless(word)}" for word, count in counts.items())
    if head.startswith("Give these fields"):
        return _give_fields(head, text, careless)
    raise ValueError(f"the reference leaf knows only the prompts of its own program, not {prompt[:120]!r}")


class _Careless:
    """Whether a thing is read wrongly: decided by its own text, so that no order of calls can change it."""

    def __init__(self, noise: float, seed: int) -> None:
        self._noise = noise
        self._seed = seed

    def __call__(self, thing: str) -> bool:
        return self._noise > 0 and self.draw(thing).random() < self._noise

    def draw(self, thing: str) -> random.Random:
        return random.Random(f"{self._seed}/{thing}")  # noqa: S311  reproducible, not secret


def _label(prompt: str, truth: Truth, careless: _Careless) -> str:
    labels = sorted(set(truth.values()))
    found = []
    for number, line in re.findall(r"^(\d+)\. (.*)$", prompt, re.MULTILINE):
        text = line.strip()
        label = truth[text]
        if careless(text) and len(labels) > 1:
            label = careless.draw(f"other {text}").choice([other for other in labels if other != label])
        found.append(f"{number}: {label}")
    return "\n".join(found)


def _find_needles(head: str, text: str, careless: _Careless) -> str:
    asked = re.match(r"What are all the special magic values for (.*) mentioned in", head)
    keys = asked[1].split(", ") if asked else []
    found = re.findall(r"special magic \w+ for (\S+) is: ([^\s.]+)\.", text)
    lines = [f"{key} = {value}" for key, value in found if key in keys and not careless(f"{key} {value}")]
    return "\n".join(dict.fromkeys(lines)) or NOTHING


def _give_fields(head: str, text: str, careless: _Careless) -> str:
    fields = head.partition("record below: ")[2].partition(". Reply")[0].split(", ")
    records = [json.loads(line) for line in text.splitlines() if line]
    return "\n".join(
        json.dumps({field: record[field] for field in fields}, ensure_ascii=False)
        for record in records
        if not careless(record["cveID"])
    )


class ReferenceLeaf:
    """``read`` as a ``Model``.

    Args:
        truth: the label of every text that may be asked about.
        noise: the share of things read wrongly.
        seed: which ones.
    """

    def __init__(self, truth: Truth | None = None, *, noise: float = 0.0, seed: int = 0) -> None:
        self._read: Callable[[str], str] = lambda prompt: read(prompt, truth or {}, noise=noise, seed=seed)
        self.name = "reference:leaf" if not noise else f"reference:leaf-{noise:g}"
        self.window_tokens = 128_000

    async def ask(self, request: Request) -> Reply:
        """Answers a leaf prompt.

        Raises:
            RequestRejectedError: the prompt is not one of the reference program's.
        """
        prompt = request.messages[-1].content
        try:
            text = self._read(prompt)
        except (ValueError, KeyError) as error:
            raise RequestRejectedError(f"{self.name}: {error}", model=self.name) from error
        return Reply(text, Usage(1, estimate_tokens(prompt), output_tokens=estimate_tokens(text)), self.name)

    async def aclose(self) -> None:
        """Nothing to release."""
