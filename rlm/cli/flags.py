"""The command-line flags of the options in ``rlm/options.py``: added to commands, and read back as arguments of ``RLM``."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from rlm.core.budget import Budget
from rlm.core.option import Bounds, Flag, Option
from rlm.options import DECLARED, DEFAULTS, TYPES

F = TypeVar("F", bound=Callable[..., Any])

_HEADINGS = list(dict.fromkeys(declared.group for declared in DECLARED.values()))
_GROUPS = {heading: Group(heading, sort_key=position) for position, heading in enumerate(_HEADINGS, 1)}

StoreFlag: TypeAlias = Annotated[str | None, Parameter(name="--store", help=DECLARED["store"].flags[0].help)]
EncodingFlag: TypeAlias = Annotated[
    str | None, Parameter(show_default=False, help="The encoding of text files; detected if not given.")
]
JsonFlag: TypeAlias = Annotated[bool, Parameter(name="--json", show_default=False, negative="")]
QuietFlag: TypeAlias = Annotated[
    bool, Parameter(name=["--quiet", "-q"], show_default=False, help="Write nothing but errors to stderr.")
]


def with_flags(*, recorded: Collection[str] | None = None) -> Callable[[F], F]:
    """Adds the flags of all options to a command that accepts ``**given``.

    Args:
        recorded: for a run whose options are recorded, the options to add, without defaults.
    """

    def add(command: F) -> F:
        signature = inspect.signature(command)
        own = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        flags = [
            _parameter(name, declared, flag, show_default=recorded is None)
            for name, declared, flag in declared_flags()
            if (recorded is None or name in recorded) and flag.identifier not in signature.parameters
        ]
        command.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
        return command

    return add


def declared_flags() -> Iterator[tuple[str, Option, Flag]]:
    """Every flag, with its option."""
    for name, declared in DECLARED.items():
        for flag in declared.flags:
            yield name, declared, flag


def read_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given on the command line, as arguments of ``RLM``.

    Raises:
        ConfigurationError: a value cannot be read.
    """
    options: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for name, _, flag in declared_flags():
        value = given.get(flag.identifier)
        if value is None:
            continue
        value = value if flag.read is None else flag.read(value)
        if value is None and flag.type is bool:  # the flag that is not given of a pair
            continue
        if flag.part:
            limits[flag.part] = value
        else:
            options[name] = value
    return options | ({"budget": Budget(**limits)} if limits else {})


def written_flags(options: Mapping[str, Any]) -> str:
    """Options as flags, for a printed command."""
    words: list[str] = []
    for name, value in options.items():
        flag = DECLARED[name].flags[0]
        for text in value if isinstance(value, list | tuple) else [value]:
            words += [flag.name, shlex.quote(str(text))]
    return "".join(f" {word}" for word in words)


def raising_flag(limit: str) -> str:
    """The flag that raises a limit, with its placeholder, for a printed command; "" if no flag does."""
    for name, _, flag in declared_flags():
        if (limit and flag.part == limit) or (limit == "iterations" and name == "max_iterations"):
            return f" {flag.name} {flag.metavar}"
    return ""


def _parameter(name: str, declared: Option, flag: Flag, *, show_default: bool) -> inspect.Parameter:
    default = None if flag.part or not show_default else DEFAULTS[name]
    hint = flag.type or TYPES[name]
    if hint is bool:
        default = False
    elif flag.read is not None or not show_default:
        default = None
        hint |= None
    bounds = flag.bounds or declared.bounds
    parameter = Parameter(
        name=[flag.name, flag.short] if flag.short else flag.name,
        help=flag.help or declared.summary,
        group=_GROUPS[declared.group],
        validator=_validator(bounds) if bounds else None,
        metavar=flag.metavar or None,
        negative="",
        show_default=default is not None and default is not False,
    )
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(flag.identifier, kind, default=default, annotation=Annotated[hint, parameter])


def _validator(bounds: Bounds) -> Number:
    return Number(gte=bounds.least, gt=bounds.above)
