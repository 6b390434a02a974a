"""Decorators of value classes: dataclasses with slots that cost little to import and to construct.

``dataclasses`` compiles up to eight methods for each class, which takes half a millisecond of every start. Here generic
methods serve all classes, and ``__init__`` is compiled with the first object. A frozen object takes half as long to construct.
``dataclasses.fields``, ``replace`` and ``asdict``, ``match``, pickle and type checkers treat the classes as dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from inspect import Signature, signature
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform, overload

from rlm.core.plain_repr import plain_repr

C = TypeVar("C", bound=type)


@overload
def frozen(cls: C, /) -> C: ...
@overload
def frozen(*, kw_only: bool = False) -> Callable[[C], C]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, dataclasses.Field))
def frozen(cls: Any = None, /, *, kw_only: bool = False) -> Any:
    """The equivalent of ``dataclass(frozen=True, slots=True)``."""
    if cls is None:
        return lambda cls: _decorate(cls, _FROZEN, kw_only)
    return _decorate(cls, _FROZEN, kw_only)


@dataclass_transform(field_specifiers=(dataclasses.field, dataclasses.Field))
def slotted(cls: C, /) -> C:
    """The equivalent of ``dataclass(slots=True)``."""
    decorated: C = _decorate(cls, _MUTABLE, kw_only=False)
    return decorated


def _decorate(cls: Any, methods: dict[str, Any], kw_only: bool) -> Any:
    for name, method in methods.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)
    # The signature that would otherwise become the docstring costs more than the rest.
    cls.__doc__ = cls.__doc__ or cls.__name__
    decorated = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    compared = [field.name for field in dataclasses.fields(decorated) if field.compare]
    decorated.__compared__ = attrgetter(*compared) if compared else staticmethod(lambda _: ())
    if "__init__" not in cls.__dict__:
        decorated.__init__ = _first_init(decorated)
        decorated.__signature__ = _LazySignature()
    return decorated


def _first_init(cls: Any) -> Callable[..., None]:
    def __init__(self: Any, /, *args: Any, **named: Any) -> None:  # noqa: N807  its name in tracebacks
        cls.__init__ = init = _compile_init(cls)
        init(self, *args, **named)

    return __init__


def _compile_init(cls: Any) -> Callable[..., None]:
    """Compiles ``__init__`` from the fields. Slots of a frozen class are set by their descriptors, which is fastest."""
    is_frozen = cls.__setattr__ is _refuse_set
    names: dict[str, Any] = {"_missing": dataclasses.MISSING}
    positional: list[str] = []
    keyword: list[str] = []
    body: list[str] = []
    for field in dataclasses.fields(cls):
        name = value = field.name
        parameter = f"{name}: _type_{name}"
        names[f"_type_{name}"] = field.type
        if field.default_factory is not dataclasses.MISSING:
            names[f"_default_{name}"], parameter = field.default_factory, f"{parameter} = _missing"
            value = f"_default_{name}() if {name} is _missing else {name}" if field.init else f"_default_{name}()"
        elif field.default is not dataclasses.MISSING:
            names[f"_default_{name}"], parameter = field.default, f"{parameter} = _default_{name}"
            value = name if field.init else f"_default_{name}"
        elif not field.init:
            continue
        if field.init:
            (keyword if field.kw_only else positional).append(parameter)
        if is_frozen:
            names[f"_set_{name}"] = getattr(cls, name).__set__
        body.append(f"_set_{name}(self, {value})" if is_frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join(["self", *positional, *(["*", *keyword] if keyword else [])])
    exec(f"def __init__({parameters}) -> None:\n " + "\n ".join(body or ["pass"]), names)  # noqa: S102  names of our fields
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


class _LazySignature:
    """The signature of a class, for ``help`` and editors: the first ``__init__`` does not have it yet."""

    def __get__(self, instance: object, cls: Any) -> Signature:
        is_subclass = "__compared__" not in vars(cls)
        of_init = signature(cls.__init__ if is_subclass else _compile_init(cls))
        return of_init.replace(parameters=list(of_init.parameters.values())[1:])


def _equals(self: Any, other: Any) -> Any:
    if other.__class__ is self.__class__:
        values = self.__compared__
        return values(self) == values(other)
    return NotImplemented


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


@recursive_repr()
def _repr(self: Any) -> str:
    values = [
        f"{field.name}={plain_repr(getattr(self, field.name))}" for field in dataclasses.fields(self) if field.repr
    ]
    return f"{type(self).__qualname__}({', '.join(values)})"


def _refuse_set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_FROZEN = {
    "__eq__": _equals,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _refuse_set,
    "__delattr__": _refuse_delete,
    "__getstate__": _get_state,
    "__setstate__": _set_state,
}
_MUTABLE = {"__eq__": _equals, "__hash__": None, "__repr__": _repr}
