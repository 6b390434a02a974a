"""The keywords of JSON schemas, each compiled to a check of one value."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from rlm.schemas.values import Path, identity, shorten, show

if TYPE_CHECKING:
    from rlm.schemas.patterns import Pattern
    from rlm.schemas.validator import Check, Node, Problem, Validation

MAX_FORMAT_CHARS = 100
MAX_SHOWN_VALUES = 20
_IDENTITY_CHARS = 64  # of a text or a key that count as one step

Maker: TypeAlias = Callable[[dict[str, Any], dict[str, Any]], "Check | None"]
"""Makes the check of a keyword from its schema and the compiled subschemas."""


def checks_of(schema: dict[str, Any], inner: dict[str, Any]) -> Iterator[Check]:
    """The checks of a schema, in a fixed order."""
    for words, make in _MAKERS:
        if any(word in schema for word in words) and (check := make(schema, inner)) is not None:
            yield check


def _enum(schema: dict[str, Any], _: dict[str, Any]) -> Check:
    values = [*schema.get("enum", []), *([schema["const"]] if "const" in schema else [])]
    if "enum" in schema and "const" in schema:
        values = [schema["const"]] if identity(schema["const"]) in set(map(identity, schema["enum"])) else []
    allowed = frozenset(map(identity, values))
    has_containers = any(isinstance(value, list | dict) for value in values)
    shown = " or ".join(show(value) for value in values[:MAX_SHOWN_VALUES])
    if len(values) > MAX_SHOWN_VALUES:
        shown += f" or one of {len(values) - MAX_SHOWN_VALUES:,} more"

    def check(value: Any, at: Path, run: Validation) -> None:
        is_container = isinstance(value, list | dict)
        if is_container and has_containers:
            run.spend(_size(value))
        if (is_container and not has_containers) or identity(value) not in allowed:
            run.note(at, f"must be {shown or 'nothing'}; got {show(value)}", "constant")

    return check


def _size(value: Any) -> int:
    """The number of parts in a value."""
    if isinstance(value, dict):
        return 1 + sum(_size(item) for item in value.values())
    return 1 + sum(_size(item) for item in value) if isinstance(value, list) else 1


def _numbers(schema: dict[str, Any], _: dict[str, Any]) -> Check:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf")
    exact = None if step is None else _fraction(step)

    def check(value: Any, at: Path, run: Validation) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        if low is not None and value < low:
            run.note(at, f"must be at least {low}; got {show(value)}")
        if high is not None and value > high:
            run.note(at, f"must be at most {high}; got {show(value)}")
        if above is not None and value <= above:
            run.note(at, f"must be above {above}; got {show(value)}")
        if below is not None and value >= below:
            run.note(at, f"must be below {below}; got {show(value)}")
        if exact is not None and math.isfinite(value) and _fraction(value) % exact:
            run.note(at, f"must be a multiple of {step}; got {show(value)}")

    return check


def _fraction(number: float) -> Fraction:
    """The number as it is written: 0.1 is a tenth."""
    return Fraction(number if isinstance(number, int) else repr(number))


def _texts(schema: dict[str, Any], inner: dict[str, Any]) -> Check:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    source, form = schema.get("pattern"), _FORMATS.get(schema.get("format", ""))
    pattern: Pattern | None = inner.get("pattern")

    def check(value: Any, at: Path, run: Validation) -> None:
        if not isinstance(value, str):
            return
        if len(value) < least:
            run.note(at, f"must have at least {least:,} characters; got {show(value)}")
        if most is not None and len(value) > most:
            run.note(at, f"must have at most {most:,} characters; got {len(value):,}")
        if pattern is not None and not pattern.search(value, run.spend):
            run.note(at, f"must match the pattern {shorten(str(source), 100)}; got {show(value)}")
        if form is not None and not _has_form(form[1], value):
            run.note(at, f"must be {form[0]}; got {show(value)}")

    return check


_FORMATS: dict[str, tuple[str, Callable[[str], object]]] = {
    "date": ("a date, as 2025-12-31", dt.date.fromisoformat),
    "date-time": ("a date with time, as 2025-12-31T09:30:00Z", dt.datetime.fromisoformat),
    "time": ("a time, as 09:30:00", dt.time.fromisoformat),
    "uuid": ("a UUID", uuid.UUID),
}


def _has_form(read: Callable[[str], object], value: str) -> bool:
    try:
        read(value if len(value) <= MAX_FORMAT_CHARS else "")
    except ValueError:
        return False
    return True


def _arrays(schema: dict[str, Any], inner: dict[str, Any]) -> Check:
    items = inner.get("items")
    first: list[Node] = inner.get("prefixItems") or (items if isinstance(items, list) else [])
    rest: Node | None = inner.get("additionalItems") if isinstance(items, list) else items
    contains: Node | None = inner.get("contains")
    counts = (schema.get("minContains", 1), schema.get("maxContains"))

    def check(value: Any, at: Path, run: Validation) -> None:
        if not isinstance(value, list):
            return
        _check_size(schema, "item", value, at, run)
        for index, node in enumerate(first[: len(value)]):
            run.apply(node, value[index], (at, index))
        if rest is not None:
            for index in range(len(first), len(value)):
                run.apply(rest, value[index], (at, index))
        if schema.get("uniqueItems"):
            _check_unique(value, at, run)
        if contains is not None:
            count = sum(not run.probe(contains, item, (at, index)) for index, item in enumerate(value))
            if count < counts[0] or (counts[1] is not None and count > counts[1]):
                wanted = f"at least {counts[0]}" if count < counts[0] else f"at most {counts[1]}"
                run.note(at, f"must contain {wanted} items of the required form; got {count:,}")

    return check


def _check_unique(value: list[Any], at: Path, run: Validation) -> None:
    run.spend(_size(value))
    seen = set()
    for index, item in enumerate(value):
        key = identity(item)
        if key in seen:
            run.note((at, index), f"must be unique in its array; got {show(item)} again")
            return
        seen.add(key)


def _check_size(schema: dict[str, Any], noun: str, value: Any, at: Path, run: Validation) -> None:
    suffix = "Items" if noun == "item" else "Properties"
    least, most = schema.get(f"min{suffix}", 0), schema.get(f"max{suffix}")
    if len(value) < least:
        run.note(at, f"must have at least {least:,} {_plural(noun, least)}; got {len(value):,}")
    if most is not None and len(value) > most:
        run.note(at, f"must have at most {most:,} {_plural(noun, most)}; got {len(value):,}")


def _plural(noun: str, count: float) -> str:
    plural = "properties" if noun == "property" else f"{noun}s"
    return noun if count == 1 else plural


def _objects(schema: dict[str, Any], inner: dict[str, Any]) -> Check:
    properties: dict[str, Node] = inner.get("properties") or {}
    patterns: list[tuple[Pattern, Node]] = inner.get("patternProperties") or []
    extra: Node | None = inner.get("additionalProperties")
    names: Node | None = inner.get("propertyNames")
    required = list(dict.fromkeys(schema.get("required", [])))
    dependent = {**_name_lists(schema.get("dependencies")), **_name_lists(schema.get("dependentRequired"))}
    schemas: dict[str, Node] = {**(inner.get("dependencies") or {}), **(inner.get("dependentSchemas") or {})}

    def check(value: Any, at: Path, run: Validation) -> None:
        if not isinstance(value, dict):
            return
        _check_size(schema, "property", value, at, run)
        run.spend(len(required) + len(dependent) + len(schemas))
        for name in [name for name in required if name not in value]:
            run.note((at, name), "is missing")
        for name, part in value.items():
            own = properties.get(name)
            if own is not None:
                run.apply(own, part, (at, name))
            matched = [node for pattern, node in patterns if pattern.search(name, run.spend)]
            for node in matched:
                run.apply(node, part, (at, name))
            if extra is not None and own is None and not matched:
                _check_extra(extra, name, part, at, run)
            if names is not None:
                for problem in run.probe(names, name, ()):
                    run.note(at, f"has the property {show(name)}, whose name {problem.text}")
        _check_dependent(dependent, value, at, run)
        for name in schemas.keys() & value.keys():
            run.apply(schemas[name], value, at)

    return check


def _check_extra(extra: Node, name: str, part: Any, at: Path, run: Validation) -> None:
    if extra.never:
        run.note((at, name), "is not a property of this object")
    else:
        run.apply(extra, part, (at, name))


def _check_dependent(dependent: dict[str, list[str]], value: dict[str, Any], at: Path, run: Validation) -> None:
    for name in dependent.keys() & value.keys():
        for other in dependent[name]:
            if other not in value:
                run.note((at, other), f"is missing, and must be given with {show(name)}")


def _name_lists(value: Any) -> dict[str, list[Any]]:
    return {name: list(map(str, names)) for name, names in (value or {}).items() if isinstance(names, list)}


def _all_of(_: dict[str, Any], inner: dict[str, Any]) -> Check:
    nodes: list[Node] = [*([inner["$ref"]] if "$ref" in inner else []), *(inner.get("allOf") or [])]

    def check(value: Any, at: Path, run: Validation) -> None:
        for node in nodes:
            run.apply(node, value, at)

    return check


def _any_of(schema: dict[str, Any], inner: dict[str, Any]) -> Check:
    nodes: list[Node] = inner["anyOf"]

    def check(value: Any, at: Path, run: Validation) -> None:
        _check_options(nodes, value, at, run)

    return check


def _one_of(schema: dict[str, Any], inner: dict[str, Any]) -> Check:
    nodes: list[Node] = inner["oneOf"]

    def check(value: Any, at: Path, run: Validation) -> None:
        fitting = _check_options(nodes, value, at, run, stop_at=2)
        if fitting > 1:
            run.note(at, f"must have exactly one of {len(nodes)} forms; got a value of several")

    return check


def _check_options(nodes: list[Node], value: Any, at: Path, run: Validation, *, stop_at: int = 1) -> int:
    """Counts the options that accept a value. If there are none, notes the problems of the nearest one."""
    fitting = 0
    tried: list[list[Problem]] = []
    for node in nodes:
        problems = run.probe(node, value, at)
        if not problems:
            fitting += 1
            if fitting == stop_at:
                break
        tried.append(problems)
    if fitting:
        return fitting
    nearest: list[list[Problem]] = [problems for problems in tried if not _differs_at_root(problems, at)]
    if nearest and all(map(_differs_in_kind, nearest)):
        _note_kinds(nearest, run)
    elif nearest:
        for problem in sorted(nearest, key=_distance)[0]:
            run.note(*problem)
    else:
        texts = [_wanted(problems[0].text) for problems in tried if problems]
        wanted = shorten(" or ".join(dict.fromkeys(texts)), 300)
        run.note(at, f"must be {wanted or 'nothing'}; got {show(value)}", "type")
    return 0


def _wanted(text: str) -> str:
    return text.rpartition("; got ")[0].removeprefix("must be ")


def _differs_at_root(found: list[Problem], at: Path) -> bool:
    """True if a value has another type than an option, or another value than its only ones."""
    return any(problem.at == at and problem.kind for problem in found)


def _differs_in_kind(found: list[Problem]) -> int:
    """The number of fixed values that differ, such as the name of a kind: the option is not meant."""
    return sum(problem.kind == "constant" for problem in found)


def _distance(found: list[Problem]) -> tuple[int, int]:
    return _differs_in_kind(found), len(found)


def _note_kinds(options: list[list[Problem]], run: Validation) -> None:
    """Notes that a value has the kind of no option."""
    allowed: dict[Path, list[str]] = {}
    got: dict[Path, str] = {}
    for problems in options:
        for problem in problems:
            if problem.kind == "constant":
                allowed.setdefault(problem.at, []).append(_wanted(problem.text))
                got[problem.at] = problem.text.rpartition("; got ")[2]
    for place, values in allowed.items():
        text = f"must be {shorten(' or '.join(dict.fromkeys(values)), 300)}; got {got[place]}"
        run.note(place, text, "constant")


def _not(_: dict[str, Any], inner: dict[str, Any]) -> Check:
    node: Node = inner["not"]

    def check(value: Any, at: Path, run: Validation) -> None:
        if not run.probe(node, value, at):
            run.note(at, f"must not have this form; got {show(value)}")

    return check


def _condition(_: dict[str, Any], inner: dict[str, Any]) -> Check | None:
    test: Node | None = inner.get("if")
    if test is None:
        return None
    met, unmet = inner.get("then"), inner.get("else")

    def check(value: Any, at: Path, run: Validation) -> None:
        branch: Node | None = unmet if run.probe(test, value, at) else met
        if branch is not None:
            run.apply(branch, value, at)

    return check


_MAKERS: tuple[tuple[tuple[str, ...], Maker], ...] = (
    (("enum", "const"), _enum),
    (("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _numbers),
    (("minLength", "maxLength", "pattern", "format"), _texts),
    (
        ("items", "prefixItems", "additionalItems", "contains", "minItems", "maxItems", "uniqueItems"),
        _arrays,
    ),
    (
        (
            "properties", "patternProperties", "additionalProperties", "propertyNames", "required", "minProperties",
            "maxProperties", "dependentRequired", "dependentSchemas", "dependencies",
        ),
        _objects,
    ),
    (("$ref", "allOf"), _all_of),
    (("anyOf",), _any_of),
    (("oneOf",), _one_of),
    (("not",), _not),
    (("if",), _condition),
)  # fmt: skip
