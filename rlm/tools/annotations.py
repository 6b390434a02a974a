"""Checks of arguments against the annotations of a function.

Arguments come from model-written code, so they are hostile input. A check accepts plain values as they are, and never calls a
class of the program. ``check_of`` is the only entrance: it compiles an annotation once, when a tool is declared.
"""

from __future__ import annotations

import collections.abc
import datetime
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NotRequired, Required, TypeAlias, Union

from rlm.core.errors import ConfigurationError
from rlm.core.tools import show_plain

MAX_STEPS = 1_000_000  # of one check: unions try their members one after another
MAX_GOT_CHARS = 60

Check: TypeAlias = "Callable[[Any, Steps], Any]"
"""Returns the value, or raises Mismatch."""

_ATOMS: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    bytes: (bytes,),
    datetime.datetime: (datetime.datetime,),
    datetime.date: (datetime.date, datetime.datetime),
    datetime.time: (datetime.time,),
    datetime.timedelta: (datetime.timedelta,),
    Decimal: (Decimal, int),
}
_SEQUENCES = (
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)


class Mismatch(Exception):
    """A value does not fit its annotation. ``path`` leads from the argument to the value."""

    def __init__(self, wanted: str, got: object) -> None:
        super().__init__(f"must be {wanted}; got {type(got).__name__} {show_plain(got, MAX_GOT_CHARS)}")
        self.path = ""

    def inside(self, step: str) -> Mismatch:
        self.path = step + self.path
        return self


class Steps:
    """Counts the steps of one check, and ends it if there are too many."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def take(self, value: object) -> None:
        self._left -= 1
        if self._left < 0:
            raise Mismatch("smaller", value)


class Compiler:
    """Compiles annotations. Types that contain themselves are compiled once.

    ``where`` names the parameter for errors; ``names`` are those that a text in an annotation can refer to.
    """

    def __init__(self, where: str, names: Mapping[str, Any]) -> None:
        self._where = where
        self._names = dict(names)
        self._known: dict[Any, Check] = {}

    def compile(self, hint: Any) -> Check:
        """Raises ConfigurationError for an annotation that plain values cannot be checked against."""
        if hint in (Any, object, inspect.Parameter.empty):
            return lambda value, _: value
        if hint is None or hint is type(None):
            return _exactly((type(None),), "None")
        if hint in _ATOMS:
            return _exactly(_ATOMS[hint], describe(hint))
        if isinstance(hint, typing.TypeVar):
            return self.compile(hint.__bound__ if hint.__bound__ is not None else Any)
        if isinstance(hint, typing.NewType):
            return self.compile(hint.__supertype__)
        if hasattr(hint, "__value__"):  # type X = ...
            return self._recursive(hint, lambda: self.compile(hint.__value__))
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return _member(hint)
        if typing.is_typeddict(hint):
            return self._recursive(hint, lambda: self._typed_dict(hint))
        if isinstance(hint, str | typing.ForwardRef):
            return self._recursive(hint, lambda: self.compile(self._resolve(hint)))
        return self._generic(hint, typing.get_origin(hint) or hint, typing.get_args(hint))

    def _resolve(self, hint: str | typing.ForwardRef) -> Any:
        try:
            return typing.get_type_hints(types.SimpleNamespace(__annotations__={"x": hint}), self._names)["x"]
        except (NameError, SyntaxError) as error:
            raise ConfigurationError(f"{self._where} has an annotation that cannot be resolved: {error}.") from None

    def _recursive(self, hint: Any, make: Callable[[], Check]) -> Check:
        if hint not in self._known:
            self._known[hint] = lambda value, steps: compiled[0](value, steps)  # noqa: PLW0108  not made yet
            compiled = [make()]
        return self._known[hint]

    def _generic(self, hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Check:
        if origin in (Required, NotRequired, typing.Annotated, typing.ClassVar, typing.Final):
            return self.compile(arguments[0])
        if origin in (Union, types.UnionType):
            return _any_of([self.compile(argument) for argument in arguments], describe(hint))
        if origin is Literal:
            return _one_of(arguments, describe(hint))
        if origin is list or origin in _SEQUENCES:
            return _items((list, tuple), list, self.compile(arguments[0] if arguments else Any), describe(hint))
        if origin is tuple:
            return self._tuple(arguments, describe(hint))
        if origin in _SETS:
            kind = frozenset if origin is frozenset else set
            return _items((set, frozenset), kind, self.compile(arguments[0] if arguments else Any), describe(hint))
        if origin in _MAPPINGS:
            key, value = arguments or (Any, Any)
            return _pairs(self.compile(key), self.compile(value), describe(hint))
        raise ConfigurationError(
            f"{self._where} has the annotation {describe(hint)}, and arguments from a REPL are plain values. "
            "Annotate it with text, numbers, lists, dicts, Literal, an Enum or a TypedDict, and convert it in the function."
        )

    def _tuple(self, arguments: tuple[Any, ...], wanted: str) -> Check:
        if not arguments or arguments[-1] is Ellipsis:
            return _items((tuple, list), tuple, self.compile(arguments[0] if arguments else Any), wanted)
        checks = [self.compile(argument) for argument in arguments if argument != ()]

        def check(value: Any, steps: Steps) -> object:
            if type(value) not in (tuple, list) or len(value) != len(checks):
                raise Mismatch(wanted, value)
            return tuple(
                _at(index, one, item, steps) for index, (one, item) in enumerate(zip(checks, value, strict=True))
            )

        return check

    def _typed_dict(self, hint: Any) -> Check:
        checks = {name: self.compile(part) for name, part in typing.get_type_hints(hint, include_extras=True).items()}
        required, wanted = hint.__required_keys__, describe(hint)

        def check(value: Any, steps: Steps) -> object:
            if type(value) is not dict or not required <= value.keys() or not value.keys() <= checks.keys():
                raise Mismatch(wanted, value)
            return {name: _at(repr(name), checks[name], item, steps) for name, item in value.items()}

        return check


def check_of(hint: Any, where: str, names: Mapping[str, Any]) -> Callable[[object], object]:
    """A function that checks values against an annotation, and returns them as that type of plain data.

    It raises Mismatch. ``where`` names the parameter, ``names`` are the globals of its function.

    Raises:
        ConfigurationError: plain values cannot be checked against the annotation.
    """
    compiled = Compiler(where, names).compile(hint)
    return lambda value: compiled(value, Steps())


def _exactly(kinds: tuple[type, ...], wanted: str) -> Check:
    def check(value: Any, steps: Steps) -> object:
        steps.take(value)
        if type(value) not in kinds:  # a bool is no int here
            raise Mismatch(wanted, value)
        return value

    return check


def _member(kind: type[enum.Enum]) -> Check:
    members = list(kind)
    wanted = describe(kind)

    def check(value: Any, steps: Steps) -> object:
        steps.take(value)
        for member in members:  # by comparison: calling the class would run its code
            plain = member.value
            if type(plain) is type(value) and plain == value:
                return member
        raise Mismatch(wanted, value)

    return check


def _any_of(checks: Sequence[Check], wanted: str) -> Check:
    def check(value: Any, steps: Steps) -> object:
        deepest: Mismatch | None = None
        for one in checks:
            steps.take(value)
            try:
                return one(value, steps)
            except Mismatch as mismatch:
                if mismatch.path and (deepest is None or len(mismatch.path) > len(deepest.path)):
                    deepest = mismatch
        raise deepest or Mismatch(wanted, value)

    return check


def _one_of(values: Sequence[object], wanted: str) -> Check:
    def check(value: Any, steps: Steps) -> object:
        steps.take(value)
        for allowed in values:
            plain = allowed.value if isinstance(allowed, enum.Enum) else allowed
            if type(plain) is type(value) and plain == value:
                return allowed
        raise Mismatch(wanted, value)

    return check


def _items(kinds: tuple[type, ...], make: Callable[[list[Any]], object], item: Check, wanted: str) -> Check:
    def check(value: Any, steps: Steps) -> object:
        steps.take(value)
        if type(value) not in kinds:
            raise Mismatch(wanted, value)
        return make([_at(index, item, one, steps) for index, one in enumerate(value)])

    return check


def _pairs(key: Check, value_check: Check, wanted: str) -> Check:
    def check(value: Any, steps: Steps) -> object:
        steps.take(value)
        if type(value) is not dict:
            raise Mismatch(wanted, value)
        return {
            _at(show_plain(name, MAX_GOT_CHARS), key, name, steps): _at(
                show_plain(name, MAX_GOT_CHARS), value_check, item, steps
            )
            for name, item in value.items()
        }

    return check


def _at(step: object, check: Check, value: object, steps: Steps) -> Any:
    try:
        return check(value, steps)
    except Mismatch as mismatch:
        raise mismatch.inside(f"[{step}]") from None


def describe(hint: Any) -> str:
    """An annotation as short source text. Enums and typed dicts are written out, because a REPL does not have them."""
    if hint is inspect.Parameter.empty:
        return ""
    if hint is None or hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if isinstance(hint, str | typing.ForwardRef):
        return hint if isinstance(hint, str) else hint.__forward_arg__
    if isinstance(hint, typing.TypeVar):
        return describe(hint.__bound__) if hint.__bound__ is not None else "Any"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"Literal[{', '.join(show_plain(member.value, MAX_GOT_CHARS) for member in hint)}]"
    if typing.is_typeddict(hint):
        return f"dict ({', '.join(hint.__annotations__)})" if hint.__annotations__ else "dict"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated or origin in (Required, NotRequired):
        return describe(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(describe(argument) for argument in arguments)
    if origin is Literal:
        values = (value.value if isinstance(value, enum.Enum) else value for value in arguments)
        return f"Literal[{', '.join(show_plain(value, MAX_GOT_CHARS) for value in values)}]"
    name = getattr(origin or hint, "__name__", None) or str(hint).replace("typing.", "")
    if arguments and not isinstance(arguments[0], list):
        return f"{name}[{', '.join(describe(argument) for argument in arguments)}]"
    return str(name)


def inner_function(function: Callable[..., Any]) -> Any:
    """The function behind wrappers, partial functions and callable objects."""
    inner: Any = inspect.unwrap(function)
    while hasattr(inner, "func"):  # functools.partial
        inner = inspect.unwrap(inner.func)
    if not isinstance(inner, types.FunctionType | types.MethodType) and hasattr(type(inner), "__call__"):  # noqa: B004
        inner = type(inner).__call__
    return inner


def hints_of(function: Callable[..., Any], where: str) -> Mapping[str, Any]:
    """The annotations of a function, resolved.

    Raises:
        ConfigurationError: one of them names what does not exist.
    """
    inner = inner_function(function)
    try:
        return typing.get_type_hints(inner, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        if isinstance(error, TypeError) and not getattr(inner, "__annotations__", None):
            return {}  # a function of C has none
        raise ConfigurationError(
            f"The annotations of {where} cannot be resolved: {error}. Define these types in the function's module."
        ) from None
