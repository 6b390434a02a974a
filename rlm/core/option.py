"""The declaration of one option: its help, unit, bounds, flags, and its place in the record of a run.

It knows neither the options themselves (``rlm/options.py``) nor any command-line library.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import field, fields, replace
from inspect import Parameter, Signature
from typing import Any

from rlm.core.errors import ConfigurationError
from rlm.core.plain_repr import plain_repr
from rlm.core.values import frozen

MOST = 10**12
MAX_SHOWN_CHARS = 200


def show_given(value: object) -> str:
    """A value as error messages quote it."""
    text = plain_repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


@frozen(kw_only=True)
class Bounds:
    """The range of a number: at least ``least``, or more than ``above``. ``whole`` allows integers only.

    ``most`` is far above any use: larger numbers overflow in the kernel's interfaces.
    """

    least: float | None = None
    above: float | None = None
    most: int | None = MOST
    whole: bool = False

    def check(self, name: str, value: object) -> None:
        """Raises ConfigurationError if ``value`` is outside the range."""
        if self.contains(value):
            return
        kind = "an integer" if self.whole else "a number"
        rule = f"{self.least:g} or more" if self.least is not None else f"more than {self.above or 0:g}"
        if self.most is not None and Bounds(most=None, whole=self.whole).contains(value) and value > self.most:  # type: ignore[operator]
            rule = f"at most {self.most:,}"
        raise ConfigurationError(f"`{name}` must be {kind}, {rule}; got {show_given(value)}.")

    def contains(self, value: Any) -> bool:
        if isinstance(value, str | bytes | bytearray | bool):
            return False
        try:
            number = operator.index(value) if self.whole else float(value)
        except Exception:  # noqa: BLE001  not a number, too large for one, or an object whose own method fails
            return False
        if isinstance(number, float) and math.isnan(number):
            return False
        if self.most is not None and number > self.most:
            return False
        return (self.least is None or number >= self.least) and (self.above is None or number > self.above)


@frozen
class Flag:
    """A command-line flag that sets an option, or one part of it.

    Attributes:
        name: for instance ``--depth``; from the option's name if empty.
        help: the option's own summary if empty.
        type: the type of its value on the command line; the option's own if None.
        read: converts that value to the option's.
        part: the field of the option that it sets, for instance ``usd`` of a budget.
        bounds: the option's own if None.
        short: a second name of one letter.
        metavar: the name of its value in help and in printed commands; from the option's unit if empty.
    """

    name: str = ""
    help: str = ""
    type: Any = None
    read: Callable[[Any], object] | None = None
    part: str = ""
    bounds: Bounds | None = None
    short: str = ""
    metavar: str = ""

    def completed(self, option: str, unit: str) -> Flag:
        """The same flag with a name and a metavar, given the option that it sets."""
        name = self.name or f"--{option.replace('_', '-')}"
        metavar = self.metavar or ("" if self.part else unit.partition(" ")[0].upper())
        return replace(self, name=name, metavar=metavar)

    @property
    def identifier(self) -> str:
        return self.name.lstrip("-").replace("-", "_")


@frozen(kw_only=True)
class Option:
    """The declaration of one option of ``rlm.RLM``.

    Attributes:
        help: a summary sentence, then details.
        group: the heading of its flags.
        flags: its command-line flags.
        python_only: the reason for having no flag.
        unrecorded: the reason for its absence from the record of a run.
        encode, decode: convert its value to JSON and back.
        changeable: ``rlm resume`` accepts another value.
    """

    help: str
    group: str
    unit: str = ""
    bounds: Bounds | None = None
    choices: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    python_only: str = ""
    unrecorded: str = ""
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    changeable: bool = False

    @property
    def summary(self) -> str:
        return self.help.partition("\n")[0]

    def check(self, name: str, value: object) -> None:
        """Checks a value that is not None. Raises ConfigurationError."""
        if self.bounds is not None:
            self.bounds.check(name, value)
        if self.choices:
            check_choice(name, value, self.choices)


def option(
    default: Any,
    help: str,  # noqa: A002  the attribute's name
    group: str,
    *,
    flag: Flag | Sequence[Flag] | None = None,
    **declared: Any,
) -> Any:
    """A dataclass field that carries the declaration of an option. It has one flag, or a reason for having none."""
    if flag is None:
        flag = () if declared.get("python_only") else Flag()
    flags = (flag,) if isinstance(flag, Flag) else tuple(flag)
    return field(default=default, metadata={"option": Option(help=help, group=group, flags=flags, **declared)})


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises ConfigurationError if ``value`` is not one of ``choices``."""
    if not isinstance(value, str) or str.__str__(value) not in choices:
        raise ConfigurationError(f"`{name}` must be one of {', '.join(choices)}; got {show_given(value)}.")


def declarations(options: type) -> dict[str, Option]:
    """The declarations of a dataclass of options, by name and in order."""
    return {declared.name: _completed(declared.name, declared.metadata["option"]) for declared in fields(options)}


def _completed(name: str, declared: Option) -> Option:
    return replace(declared, flags=tuple(flag.completed(name, declared.unit) for flag in declared.flags))


def describe_options(options: type) -> str:
    """The ``Args:`` entries of a docstring, one for each option."""
    lines = []
    for declared in fields(options):
        unit, default = declared.metadata["option"].unit, declared.default
        notes = [*([unit] if unit else []), *([f"default {default!r}"] if default is not None else [])]
        text = declared.metadata["option"].help.replace("\n", "\n            ")
        lines.append(f"        {declared.name}: {text}" + (f" ({', '.join(notes)})" if notes else ""))
    return "\n".join(lines)


def options_signature(options: type) -> Signature:
    """The signature of a callable with these options, for ``help`` and editors. The first one can be positional."""
    parameters = [
        Parameter(declared.name, Parameter.KEYWORD_ONLY, default=declared.default, annotation=declared.type)
        for declared in fields(options)
    ]
    return Signature([parameters[0].replace(kind=Parameter.POSITIONAL_OR_KEYWORD), *parameters[1:]])
