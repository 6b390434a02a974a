"""Registry of tasks by name."""

from __future__ import annotations

from collections.abc import Iterator

from rlm.core.errors import ConfigurationError
from rlm_evals import oolong, pairs, records, ruler
from rlm_evals.item import Item
from rlm_evals.pools import SOURCES, Pools

PACKED_SOURCES = tuple(name for name, facts in SOURCES.items() if not facts.own_folder)
MIN_LENGTH, MAX_LENGTH = 1000, 4_194_304


def known_tasks() -> list[str]:
    """Names of all tasks that run on the packed data."""
    return [
        *(f"oolong/{source}" for source in PACKED_SOURCES),
        "pairs/mixed",
        *(f"ruler/{name}" for name in ruler.TASKS),
        "records",
    ]


def make_items(task: str, length: int, count: int, *, seed: int = 0, pools: Pools | None = None) -> Iterator[Item]:
    """Generates the items of one task at one length. The same arguments give the same items, in any process.

    Args:
        task: ``oolong/SOURCE``, ``oolong/SOURCE/GROUP``, ``pairs/SOURCE``, ``ruler/TASK`` or ``records``.
        length: nominal length in tokens, 1,000 to 4,194,304.
        count: number of items.
        seed: selects the windows, needles and questions.
        pools: source material; None uses the packed data.

    Raises:
        ConfigurationError: an unknown task, a length out of range, or missing data.
    """
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise ConfigurationError(f"`length` must be {MIN_LENGTH} to {MAX_LENGTH} tokens; got {length}.")
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
            raise ConfigurationError(
                f"`task` must be one of {', '.join(known_tasks())} or oolong/SOURCE/GROUP; got {task!r}."
            )
