"""The tasks by name: one place that knows which families there are."""

from __future__ import annotations

from collections.abc import Iterator

from rlm.core.errors import ConfigurationError
from rlm_evals import oolong, pairs, records, ruler
from rlm_evals.item import Item
from rlm_evals.pools import SOURCES, Pools

PACKED_SOURCES = tuple(name for name, facts in SOURCES.items() if not facts.own_folder)
MIN_LENGTH, MAX_LENGTH = 1000, 4_194_304


def known_tasks() -> list[str]:
    """Every task that needs no data of the user's."""
    return [
        *(f"oolong/{source}" for source in PACKED_SOURCES),
        "pairs/mixed",
        *(f"ruler/{name}" for name in ruler.TASKS),
        "records",
    ]


def make_items(task: str, length: int, count: int, *, seed: int = 0, pools: Pools | None = None) -> Iterator[Item]:
    """The items of one task at one length; the same arguments give the same items, in any process.

    Args:
        task: ``oolong/SOURCE``, ``oolong/SOURCE/GROUP``, ``pairs/SOURCE``, ``ruler/TASK`` or ``records``.
        length: nominal length in tokens, 1,000 to 4,194,304.
        count: how many items.
        seed: another one gives other windows, needles and questions.
        pools: where the material comes from; the packed data when None.

    Raises:
        ConfigurationError: an unknown task, a length out of range, or data that is not there.
    """
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise ConfigurationError(f"length {length}: give {MIN_LENGTH} to {MAX_LENGTH} tokens.")
    material = pools or Pools()
    match task.split("/"):
        case ["oolong", source]:
            return oolong.make_items(material, source, length, count, seed)
        case ["oolong", source, group]:
            return oolong.make_items(material, source, length, count, seed, group=group)
        case ["pairs", source]:
            return pairs.make_items(material, source, length, count, seed)
        case ["ruler", name]:
            return ruler.make_items(material, name, length, count, seed)
        case ["records"]:
            return records.make_items(material, length, count, seed)
        case _:
            raise ConfigurationError(f"unknown task {task!r}. Known: {', '.join(known_tasks())}; oolong/SOURCE/GROUP.")
