"""Sizes of plain data, without a walk through all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from rlm.core.cells import PlainValue

STEP_ITEMS = 32_768
"""Items that are handled by one call into the interpreter, which holds its lock meanwhile."""
STR_FILE_BYTES = 1 << 30
"""Largest file that is a ``str`` in its REPL: it is read in a fifth of a second, to find out whether it is ASCII."""
LIGHT_ITEMS = 5_000
ITEM_BYTES = 6  # of JSON, besides the characters of a text: about the size of a number


_TEXTS = (str, bytes, bytearray)
_CONTAINERS = (dict, list, tuple, set, frozenset)


def exceeds(value: PlainValue, limit: int) -> bool:
    """True if plain data takes more than ``limit`` bytes as text or JSON. It stops as soon as that is known."""
    left = limit
    open_containers: list[Iterator[object]] = [iter((value,))]
    while open_containers:
        for item in open_containers[-1]:
            left -= ITEM_BYTES
            if isinstance(item, _TEXTS):
                left -= len(item)
            if left < 0:
                return True
            if isinstance(item, _CONTAINERS):
                if isinstance(item, dict):
                    open_containers.append(iter(item.values()))
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
