"""RULER's needles, variable tracking, common and frequent words, at any length.

Hsieh et al.: "RULER: What's the Real Context Size of Your Long-Context Language Models?" (arXiv 2404.06654), section 3 and
appendix B. Task names are RULER's; the S-NIAH task of arXiv 2512.24601 is ``niah_single_2``. Differences, for licences and
exactness:

- Running text is Moby-Dick instead of essays, and keys and words come from the same book.
- Every value is drawn only once, so that no needle can match by accident.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from rlm.core.errors import ConfigurationError
from rlm_evals.item import Item, rng_for
from rlm_evals.pools import Pools

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
DEPTHS = 40  # needles are placed at one of 40 equally spaced depths
RESERVED_TOKENS = 200  # for the question and the reply

# Characters per token, measured with the o200k vocabulary.
PROSE_CHARS, NOISE_CHARS, NEEDLE_CHARS, UUID_CHARS = 4.2, 3.7, 3.6, 1.95


@dataclass(frozen=True, slots=True)
class NeedleTask:
    """Parameters of a needle task.

    ``keys`` keys with ``values`` values each are hidden in a haystack of noise, prose or needles. The question requests ``asked``
    of them.
    """

    haystack: str
    key: str = "words"
    value: str = "number"
    keys: int = 1
    values: int = 1
    asked: int = 1


NEEDLE_TASKS = MappingProxyType(
    {
        "niah_single_1": NeedleTask("noise"),
        "niah_single_2": NeedleTask("prose"),
        "niah_single_3": NeedleTask("prose", value="uuid"),
        "niah_multikey_1": NeedleTask("prose", keys=4),
        "niah_multikey_2": NeedleTask("needles"),
        "niah_multikey_3": NeedleTask("needles", key="uuid", value="uuid"),
        "niah_multivalue": NeedleTask("prose", values=4),
        "niah_multiquery": NeedleTask("prose", keys=4, asked=4),
    }
)

_Text = tuple[str, str, tuple[str, ...], str]
"""(question, context, gold, preamble)"""


def make_items(pools: Pools, task: str, length: int, count: int, seed: int) -> Iterator[Item]:
    """Generates items of one RULER task, each with its own context.

    Raises:
        ConfigurationError: an unknown task, or a length below 1,000.
    """
    if task not in TASKS:
        raise ConfigurationError(f"the name of a ruler task must be one of {', '.join(TASKS)}; got {task!r}.")
    if length < 1000:
        raise ConfigurationError(f"`length` must be at least 1000 tokens for ruler; got {length}.")
    for number in range(count):
        rng = rng_for("ruler", task, length, seed, number)
        question, context, gold, preamble = TASKS[task](pools, rng, length - RESERVED_TOKENS)
        yield Item(
            id=f"ruler/{task}/{length}/{seed}/{number:03d}",
            task=f"ruler/{task}",
            length=length,
            question=question,
            context=context,
            gold=gold,
            scorer="ruler",
            preamble=preamble,
        )


# Needles.


def _needles(pools: Pools, rng: random.Random, tokens: int, task: NeedleTask) -> _Text:
    drawn: set[str] = set()

    def fresh(draw: Callable[[], str]) -> str:
        while (new := draw()) in drawn:
            pass
        drawn.add(new)
        return new

    def key() -> str:
        return fresh(
            lambda: _uuid(rng) if task.key == "uuid" else f"{rng.choice(pools.words)}-{rng.choice(pools.words)}"
        )

    def value() -> str:
        return fresh(lambda: _uuid(rng) if task.value == "uuid" else str(rng.randint(1_000_000, 9_999_999)))

    chosen = {key(): [value() for _ in range(task.values)] for _ in range(task.keys)}
    needles = [_needle(task, name, secret) for name, secrets in chosen.items() for secret in secrets]
    room = tokens - sum(len(needle) for needle in needles) / (
        UUID_CHARS if "uuid" in (task.key, task.value) else NEEDLE_CHARS
    )
    if task.haystack == "needles":
        chars = room * (UUID_CHARS if task.key == "uuid" else NEEDLE_CHARS)
        hay = _fill(chars, lambda: _needle(task, key(), value()))
    else:
        hay = _noise(room) if task.haystack == "noise" else _sentences(pools, rng, room)
    context = _insert(rng, hay, needles, "\n" if task.haystack != "prose" else " ")
    asked = rng.sample(list(chosen), task.asked)
    gold = tuple(secret for name in asked for secret in chosen[name])
    kinds = f"{task.value}s"
    question = f"What are all the special magic {kinds} for {_listed(asked)} mentioned in the provided text?"
    preamble = (
        f"Some special magic {kinds} are hidden within the following text. Make sure to memorize it. I will quiz you about the "
        f"{kinds} afterwards."
    )
    return question, context, gold, preamble


def _needle(task: NeedleTask, key: str, value: str) -> str:
    return f"One of the special magic {task.value}s for {key} is: {value}."


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"


# Haystacks, as lists of pieces; needles go between pieces.


def _fill(chars: float, make: Callable[[], str]) -> list[str]:
    pieces: list[str] = []
    while chars > 0:
        pieces.append(make())
        chars -= len(pieces[-1]) + 1
    return pieces


def _noise(tokens: float) -> list[str]:
    return [NOISE] * max(1, int(tokens * NOISE_CHARS / (len(NOISE) + 1)))


def _sentences(pools: Pools, rng: random.Random, tokens: float) -> list[str]:
    """Sentences of the book from a random start, wrapping around at its end."""
    paragraphs = pools.prose
    place = rng.randrange(len(paragraphs))
    sentences: list[str] = []
    left = tokens * PROSE_CHARS
    while left > 0:
        for sentence in re.split(r"(?<=[.!?]) ", paragraphs[place % len(paragraphs)]):
            sentences.append(sentence)
            left -= len(sentence) + 1
        place += 1
    return sentences


def _insert(rng: random.Random, hay: list[str], needles: Sequence[str], between: str) -> str:
    depths = [round(len(hay) * step / (DEPTHS - 1)) for step in range(DEPTHS)]
    places = sorted((rng.choice(depths), rng.random(), needle) for needle in needles)
    return _join_at(hay, [(place, needle) for place, _, needle in places], between)


def _join_at(hay: Sequence[str], inserts: Sequence[tuple[int, str]], between: str) -> str:
    pieces: list[str] = []
    done = 0
    for place, text in inserts:
        pieces += [*hay[done:place], text]
        done = place
    return between.join([*pieces, *hay[done:]])


# Variable tracking.


def _variables(rng: random.Random, tokens: int, chains: int, hops: int = 4) -> _Text:
    names: set[str] = set()
    while len(names) < chains * (hops + 1):
        names.add("".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=5)))
    ordered = rng.sample(sorted(names), len(names))
    values = rng.sample(range(10_000, 100_000), chains)
    hay = _noise(tokens - chains * (hops + 1) * 12)
    inserts: list[tuple[int, str]] = []
    for number, value in enumerate(values):
        chain = ordered[number * (hops + 1) : (number + 1) * (hops + 1)]
        lines = [f"VAR {chain[0]} = {value}"]
        lines += [f"VAR {after} = VAR {before}" for before, after in pairwise(chain)]
        places = sorted(rng.randrange(len(hay) + 1) for _ in lines)
        inserts += zip(places, lines, strict=True)
    inserts.sort(key=lambda insert: insert[0])  # stable, so the order within a chain is preserved
    question = (
        f"Find all variables that are assigned the value {values[0]} in the text above, directly or through other variables. "
        "Give all their names."
    )
    preamble = "Memorize and track the chain(s) of variable assignment hidden in the following text."
    return question, _join_at(hay, inserts, "\n"), tuple(ordered[: hops + 1]), preamble


# Common and frequent words.

COMMON_WORDS = 10


def _common_words(pools: Pools, rng: random.Random, tokens: int) -> _Text:
    total = int(tokens / 5.4)
    if total / 3 > len(pools.words):
        total = int(tokens / 7.2)  # most words are then concatenations of two
    often, seldom = (30, 3) if total >= 30 * COMMON_WORDS * 1.5 else (max(4, total // 20), 1)
    others = max(1, (total - often * COMMON_WORDS) // seldom)
    words = _distinct_words(pools.words, rng, others + COMMON_WORDS)
    gold = words[:COMMON_WORDS]
    listed = gold * often + words[COMMON_WORDS:] * seldom
    rng.shuffle(listed)
    context = " ".join(f"{number}. {word}" for number, word in enumerate(listed, 1))
    preamble = (
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear "
        "most often."
    )
    return "What are the 10 most common words in the above list?", context, tuple(gold), preamble


def _distinct_words(words: Sequence[str], rng: random.Random, count: int) -> list[str]:
    """Words of the book, and concatenations of two if there are not enough."""
    if count <= len(words):
        return rng.sample(words, count)
    distinct = dict.fromkeys(rng.sample(words, len(words)))
    while len(distinct) < count:
        distinct[f"{rng.choice(words)}{rng.choice(words)}"] = None
    return list(distinct)


ZETA_2 = 1.6449


def _frequent_words(rng: random.Random, tokens: int) -> _Text:
    total = int(tokens / 1.9)  # 4.3 tokens per word and 2 per dots, which dominate
    ranks = max(50, total // 50)
    words: dict[str, None] = {}
    while len(words) < ranks:
        words["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6))] = None
    listed: list[str] = []
    for rank, word in enumerate(["...", *words], 1):
        times = int(total / ZETA_2 / rank**2)
        if not times:
            break
        listed += [word] * times
    rng.shuffle(listed)
    gold = tuple(words)[:3]
    question = (
        "Do not provide any explanation. Please ignore the dots '...'. What are the three most frequently appeared words in the "
        "above coded text?"
    )
    preamble = (
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared "
        "coded words."
    )
    return question, " ".join(listed), gold, preamble


def _needle_task(task: NeedleTask) -> Callable[[Pools, random.Random, int], _Text]:
    return lambda pools, rng, tokens: _needles(pools, rng, tokens, task)


TASKS: dict[str, Callable[[Pools, random.Random, int], _Text]] = {
    **{name: _needle_task(task) for name, task in NEEDLE_TASKS.items()},
    "vt": lambda _, rng, tokens: _variables(rng, tokens, 1),
    "vt_chains": lambda _, rng, tokens: _variables(rng, tokens, 3),
    "cwe": _common_words,
    "fwe": lambda _, rng, tokens: _frequent_words(rng, tokens),
}
