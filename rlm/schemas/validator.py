"""Validation of plain data against a JSON schema (draft 2020-12, and the older forms that programs still write).

A schema is compiled once. Validation counts its steps and stops at a limit, because a small schema can ask for exponential work.
Libraries cannot be interrupted this way: the fastest one holds the interpreter's lock, and a deep value ends its process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import orjson

from rlm.core.errors import SchemaError
from rlm.core.values import slotted
from rlm.schemas import keywords
from rlm.schemas.limits import (
    LISTS,
    MAPS,
    MAX_DEPTH,
    MAX_PARTS,
    SINGLE,
    check_shape,
    plain_schema,
    resolve,
)
from rlm.schemas.patterns import MAX_STATES, Pattern
from rlm.schemas.steps import INLINE_STEPS as INLINE_STEPS
from rlm.schemas.steps import TooManySteps as TooManySteps
from rlm.schemas.values import Path, has_some_type, path_text, show

MAX_PROBLEMS = 8  # shown to a model at once
MAX_FOUND = 100  # problems found before validation stops
MAX_PROBED = 20  # problems of one option of a union
MAX_LEVELS = 200  # nested evaluations, each of two stack frames

Check: TypeAlias = Callable[[Any, Path, "Validation"], None]


class _EnoughProblems(Exception):
    """More problems would not be shown."""


class Problem(NamedTuple):
    """One violation. ``kind`` is "type" or "constant" if the value cannot be meant to follow this schema."""

    at: Path
    text: str
    kind: str = ""


@slotted
class Node:
    """A compiled schema: the allowed types, then checks in order. ``constants`` are properties with a fixed value."""

    types: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    never: bool = False


@slotted
class Validation:
    """The state of one validation."""

    steps: int
    problems: list[Problem]
    levels: int = 0
    most: int = MAX_FOUND

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise TooManySteps

    def note(self, at: Path, text: str, kind: str = "") -> None:
        self.problems.append(Problem(at, text, kind))
        if len(self.problems) >= self.most:
            raise _EnoughProblems

    def apply(self, node: Node, value: Any, at: Path) -> None:
        """Applies a node to a value."""
        self.steps -= 1 + len(node.checks)
        if self.steps < 0 or self.levels > MAX_LEVELS:
            raise TooManySteps
        if node.types and not has_some_type(value, node.types):
            self.note(at, f"must be {_either(node.types)}; got {show(value)}", "type")
            return
        if node.never:
            self.note(at, "is not allowed here")
            return
        self.levels += 1
        for check in node.checks:
            check(value, at, self)
        self.levels -= 1

    def probe(self, node: Node, value: Any, at: Path) -> list[Problem]:
        """The problems that a node finds, without noting them."""
        kept, most, levels = self.problems, self.most, self.levels
        self.problems, self.most = [], MAX_PROBED
        try:
            self.apply(node, value, at)
        except _EnoughProblems:
            self.levels = levels
        problems, self.problems, self.most = self.problems, kept, most
        return problems


class Validator:
    """A compiled schema.

    Raises:
        SchemaError: the schema is invalid, or exceeds a limit.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = plain_schema(schema)
        self._root = _Compiler(self.schema).compile()

    def problems(self, value: Any, subject: str = "the answer", *, steps: int = INLINE_STEPS) -> tuple[str, ...]:
        """Each violation with its path, at most ``MAX_PROBLEMS``; empty if the value is valid.

        Raises:
            TooManySteps: the value needs more than ``steps`` steps.
        """
        validation = Validation(steps, [])
        try:
            validation.apply(self._root, value, ())
        except _EnoughProblems:
            pass
        except RecursionError:
            raise TooManySteps from None
        listed = list(
            dict.fromkeys(f"{path_text(problem.at, subject)} {problem.text}" for problem in validation.problems)
        )
        if len(listed) > MAX_PROBLEMS:
            more = f"{len(listed) - MAX_PROBLEMS}{' or' if len(listed) >= MAX_FOUND else ''} more"
            listed = [*listed[:MAX_PROBLEMS], f"and {more}"]
        return tuple(listed)

    @cached_property
    def accepts_text(self) -> bool:
        """True if some text is valid, as far as types and listed values decide it."""
        return self._accepts_text(self.schema, {})

    def _accepts_text(self, part: Any, known: dict[str, bool]) -> bool:
        """``known`` are the answers for references, true while one is being followed."""
        if not isinstance(part, dict):
            return part is not False
        named = part.get("type", "string")
        values = [part["const"]] if "const" in part else part.get("enum", [""])
        if "string" not in ([named] if isinstance(named, str) else named):
            return False
        if not any(isinstance(value, str) for value in values):
            return False
        reference = part.get("$ref")
        if reference is not None and reference not in known:
            known[reference] = True
            known[reference] = self._accepts_text(resolve(self.schema, reference), known)
        if reference is not None and not known[reference]:
            return False
        if not all(self._accepts_text(option, known) for option in part.get("allOf", [])):
            return False
        options = [part[keyword] for keyword in ("anyOf", "oneOf") if keyword in part]
        return all(any(self._accepts_text(option, known) for option in choice) for choice in options)


class _Compiler:
    """Compiles the parts of one schema, each once."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._nodes: dict[int, Node] = {}
        self._states_left = MAX_STATES
        self._waiting: list[tuple[dict[str, Any], Node]] = []

    def compile(self) -> Node:
        """The node of the whole schema."""
        root = self._node(self._root, 0)
        while self._waiting:
            part, node = self._waiting.pop()
            self._fill(part, node, 0)
        return root

    def _node(self, part: Any, depth: int) -> Node:
        """The node of a part."""
        if not isinstance(part, dict):
            check_shape(part)
            return Node(never=not part)
        node = self._nodes.get(id(part))
        if node is None:
            node = self._new(part)
            self._fill(part, node, depth)
        return node

    def _referred(self, part: Any) -> Node:
        """The node of a part that a reference names. It is filled later, because it can contain the reference."""
        if not isinstance(part, dict):
            return self._node(part, 0)
        node = self._nodes.get(id(part))
        if node is None:
            node = self._new(part)
            self._waiting.append((part, node))
        return node

    def _new(self, part: dict[str, Any]) -> Node:
        if len(self._nodes) >= MAX_PARTS:
            raise SchemaError(f"a schema must have at most {MAX_PARTS:,} parts")
        node = self._nodes[id(part)] = Node()
        return node

    def _fill(self, part: dict[str, Any], node: Node, depth: int) -> None:
        check_shape(part)
        if depth > MAX_DEPTH:
            raise SchemaError(f"a schema must be nested at most {MAX_DEPTH} levels deep")
        named = part.get("type", [])
        node.types = (named,) if isinstance(named, str) else tuple(named)
        inner = {keyword: self._inner(keyword, value, depth + 1) for keyword, value in part.items()}
        node.checks = tuple(keywords.checks_of(part, inner))

    def _inner(self, keyword: str, value: Any, depth: int) -> Any:
        """The nodes of a keyword's subschemas, in the keyword's own shape."""
        if keyword == "$ref":
            return self._referred(resolve(self._root, value))
        if keyword == "pattern":
            return self._pattern(value)
        if keyword == "patternProperties":
            return [(self._pattern(source), self._node(part, depth)) for source, part in value.items()]
        if keyword in MAPS:
            return {name: self._node(part, depth) for name, part in value.items()}
        if keyword in LISTS or (keyword == "items" and isinstance(value, list)):
            return [self._node(part, depth) for part in value]
        if keyword in SINGLE:
            return self._node(value, depth)
        if keyword == "dependencies" and isinstance(value, dict):
            return {name: self._node(part, depth) for name, part in value.items() if not isinstance(part, list)}
        return None

    def _pattern(self, source: str) -> Pattern:
        pattern = Pattern(source, self._states_left)
        self._states_left -= pattern.size
        return pattern


def _either(types: tuple[str, ...]) -> str:
    words = [f"{'an' if name[0] in 'aoi' else 'a'} {name}" if name != "null" else name for name in types]
    return " or ".join(words)


def compile_schema(schema: Mapping[str, Any]) -> Validator:
    """The validator of a schema; recent ones are compiled once.

    Raises:
        SchemaError: the schema is invalid, or exceeds a limit.
    """
    try:
        return _compile(orjson.dumps(schema if type(schema) is dict else dict(schema)))
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"a schema must be JSON data; got {error}") from None


@lru_cache(maxsize=64)
def _compile(data: bytes) -> Validator:
    return Validator(orjson.loads(data))
