"""A probe and its result."""

from __future__ import annotations

import textwrap
from typing import Literal, TypeAlias

from rlm.core.values import frozen

Verdict: TypeAlias = Literal["held", "reached", "harmless", "not run"]
"""The outcome of a probe.

- ``held``: the attempt failed or the REPL ended.
- ``reached``: it succeeded.
- ``harmless``: it succeeded, and the probe explains why that does no harm.
- ``not run``: this machine or this level cannot be probed this way; the detail gives the reason.
"""


@frozen
class Probe:
    """One attempt.

    Attributes:
        name: short and unique, as ``area.attempt``.
        code: a cell. Its last expression is true if the attempt succeeded; an exception means that it failed. The names of
            ``run.PRELUDE`` are defined.
        harmless: why success does no harm; empty if it does.
        protocol: the attempt targets the host's end of the wire. It is held if only this REPL was ended, or nothing happened.
        seconds: time limit of the cell, which also stops abuses that never end.
    """

    name: str
    code: str
    harmless: str = ""
    protocol: bool = False
    seconds: float = 10.0


@frozen
class ProbeResult:
    """Result of one probe: its name, the verdict, and a detail for people."""

    name: str
    verdict: Verdict
    detail: str


def probes(area: str, entries: dict[str, str]) -> tuple[Probe, ...]:
    """Builds the probes of one area from names and cells."""
    return tuple(Probe(f"{area}.{name}", textwrap.dedent(code).strip()) for name, code in entries.items())
