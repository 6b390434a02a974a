"""Sizes of plain data, without a walk through all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from rlm.core.cells import PlainValue

STEP_ITEMS = 32_768
"""Items that are handled by one call into the interpreter, which holds its lock meanwhile."""
LIGHT_ITEMS = 5_000
ITEM_BYTES = 3  # of JSON, at least: two quotes and a comma


def exceeds(value: PlainValue, limit: int) -> bool:
    """True if plain data takes more than ``limit`` bytes as text or JSON. It stops as soon as that is known."""
    left = limit
    open_containers: list[Iterator[object]] = [iter((value,))]
    while open_containers:
        for item in open_containers[-1]:
            left -= ITEM_BYTES
            if isinstance(item, str | bytes | bytearray):
                left -= len(item)
            if left < 0:
                return True
            if isinstance(item, Mapping):
                open_containers += (iter(item.values()), iter(item))
                break
            if isinstance(item, list | tuple | set | frozenset):
                open_containers.append(iter(item))
                break
        else:
            open_containers.pop()
    return False


def has_many_items(value: object) -> bool:
    """True for containers that should be walked through in a thread, not on the event loop."""
    return isinstance(value, list | tuple | set | frozenset | Mapping) and len(value) > LIGHT_ITEMS


def in_steps(values: Iterable[object]) -> Iterator[Sequence[object]]:
    """The values in lists that are short enough to be handled at once."""
    remaining = iter(values)
    while step := list(islice(remaining, STEP_ITEMS)):
        yield step
