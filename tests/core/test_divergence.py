"""Differences between two executions. A redacted secret matches anything, but only in its place."""

from __future__ import annotations

import pytest

from rlm.core.cells import CellResult
from rlm.core.divergence import REDACTED, find_difference, without_addresses, without_repr_addresses


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("the key", "the key", True),
        ("the key", "the kez", False),
        (f"a {REDACTED} b", "a sk-123 b", True),
        (f"a {REDACTED} b", "a  b", True),
        (f"a {REDACTED} b", "a b", False),
        (f"a {REDACTED} b", "a sk-123 c", False),
        (f"{REDACTED}{REDACTED}", "anything", True),
        (f"x{REDACTED}y{REDACTED}z", "x1y2y3z", True),
        (f"x{REDACTED}y{REDACTED}z", "x1z", False),
        ("a" + f"{REDACTED}b" * 40, "a" + "1b" * 40, True),
        ("a" + f"{REDACTED}b" * 40 + "c", "a" + "1b" * 20_000, False),
    ],
)
def test_redacted_secret_matches_anything(before: str, after: str, same: bool) -> None:
    difference = find_difference(CellResult("ok", before), CellResult("ok", after))
    assert (difference is None) is same


def test_addresses_are_distinguished_from_data() -> None:
    thing = "<__main__.Thing object at 0x7f3a2c1b5d90> and 0x401000 at 0x7f3a2c1b5d90"
    assert without_addresses(thing) == "<__main__.Thing object at 0x> and 0x at 0x"
    assert without_repr_addresses(thing) == "<__main__.Thing object at 0x> and 0x401000 at 0x7f3a2c1b5d90"
