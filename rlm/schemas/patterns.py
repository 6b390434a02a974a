"""Regular expressions of schemas, matched in bounded time.

``re`` backtracks, so a hostile pattern can run for years. Here a pattern becomes a non-deterministic automaton, and all its
states advance together. The time is at most the length of the text times the number of states. Syntax and classes are those of
``re``, with ASCII classes. Back-references, look-behind and possessive repeats are rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

from rlm.core.errors import SchemaError

MAX_PATTERN_CHARS = 1000
MAX_STATES = 2000

Spend: TypeAlias = Callable[[int], None]
"""Counts steps; raises once there are too many."""

_CLASSES: dict[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": lambda char: "0" <= char <= "9",
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda char: char == "_" or (char.isascii() and char.isalnum()),
}


class _State(NamedTuple):
    """One state. ``test`` consumes a character; ``at`` and ``look`` consume none."""

    next: tuple[int, ...] = ()
    test: Callable[[str], bool] | None = None
    at: str = ""
    look: tuple[int, bool] | None = None


class Pattern:
    """A compiled pattern.

    Raises:
        SchemaError: the pattern is invalid, too large, or needs backtracking.
    """

    def __init__(self, text: str, most_states: int = MAX_STATES) -> None:
        self._most_states = most_states
        if len(text) > MAX_PATTERN_CHARS:
            raise SchemaError(f"a pattern must have at most {MAX_PATTERN_CHARS:,} characters; got {len(text):,}")
        self._states: list[_State] = []
        parser = import_module("re._parser")  # the standard library's own parser, which has no public name
        try:
            tree = parser.parse(text)
            self._accept = self._add(_State())
            self._start = self._sequence(list(tree), self._accept)
        except (parser.error, OverflowError) as error:
            raise SchemaError(f"pattern {text[:80]!r} is not a regular expression: {error}") from None
        except RecursionError:
            raise SchemaError(f"pattern {text[:80]!r} is nested too deeply") from None

    @property
    def size(self) -> int:
        """The number of its states."""
        return len(self._states)

    def search(self, text: str, spend: Spend) -> bool:
        """True if the pattern matches anywhere in the text."""
        return self._run(text, 0, self._start, spend, anywhere=True)

    def _run(self, text: str, start: int, first: int, spend: Spend, *, anywhere: bool) -> bool:
        active: list[int] = []
        for position in range(start, len(text) + 1):
            seeds = [*active, first] if anywhere or position == start else active
            consuming, accepted = self._close(seeds, text, position, spend)
            if accepted:
                return True
            if position == len(text) or not (consuming or anywhere):
                return False
            char, active = text[position], []
            for number in consuming:
                state = self._states[number]
                if state.test is not None and state.test(char):
                    active.extend(state.next)
        return False

    def _close(self, seeds: list[int], text: str, position: int, spend: Spend) -> tuple[list[int], bool]:
        """The states that consume a character, reachable without consuming one; and True if the end is among them."""
        seen: set[int] = set()
        stack, consuming = seeds, []
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            if number == self._accept:
                return [], True
            state = self._states[number]
            if state.test is not None:
                consuming.append(number)
            elif state.at:
                if _holds(state.at, text, position):
                    stack.extend(state.next)
            elif state.look is not None:
                inner, negated = state.look
                if self._looks(text, position, inner, spend) is not negated:
                    stack.extend(state.next)
            else:
                stack.extend(state.next)
        spend(1 + len(seen))
        return consuming, False

    def _looks(self, text: str, position: int, inner: int, spend: Spend) -> bool:
        """True if a look-ahead, whose states end in the shared final state, matches here."""
        return self._run(text, position, inner, spend, anywhere=False)

    def _add(self, state: _State) -> int:
        if len(self._states) >= self._most_states:
            raise SchemaError("the patterns of a schema have too many states: write them with fewer repeats")
        self._states.append(state)
        return len(self._states) - 1

    def _sequence(self, items: list[Any], after: int) -> int:
        for operator, argument in reversed(items):
            after = self._item(str(operator), argument, after)
        return after

    def _item(self, operator: str, argument: Any, after: int) -> int:
        match operator:
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                return self._add(_State((after,), _make_test(operator, argument)))
            case "BRANCH":
                return self._add(_State(tuple(self._sequence(list(branch), after) for branch in argument[1])))
            case "SUBPATTERN":
                return self._sequence(list(argument[3]), after)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, body = argument
                return self._repeat(least, most, list(body), after)
            case "AT":
                return self._add(_State((after,), at=str(argument)))
            case "ASSERT" | "ASSERT_NOT" if argument[0] == 1:
                inner = self._sequence(list(argument[1]), self._accept)
                return self._add(_State((after,), look=(inner, operator == "ASSERT_NOT")))
            case _:
                name = operator.lower().replace("_", " ")
                raise SchemaError(f"a pattern must not use {name}: it cannot be matched in linear time")

    def _repeat(self, least: int, most: Any, items: list[Any], after: int) -> int:
        if str(most) == "MAXREPEAT":
            loop = self._add(_State())
            self._states[loop] = _State((self._sequence(items, loop), after))
            after = loop
        else:
            end = after
            for _ in range(most - least):
                after = self._add(_State((self._sequence(items, after), end)))
        for _ in range(least):
            after = self._sequence(items, after)
        return after


def _make_test(operator: str, argument: Any) -> Callable[[str], bool]:
    match operator:
        case "LITERAL":
            return chr(argument).__eq__
        case "NOT_LITERAL":
            return chr(argument).__ne__
        case "ANY":
            return lambda char: char not in "\n\r\u2028\u2029"
        case _:
            return _make_set(argument)


def _make_set(items: list[Any]) -> Callable[[str], bool]:
    chars: set[str] = set()
    ranges: list[tuple[int, int]] = []
    classes: list[Callable[[str], bool]] = []
    negated = False
    for operator, argument in items:
        match str(operator):
            case "NEGATE":
                negated = True
            case "LITERAL":
                chars.add(chr(argument))
            case "RANGE":
                ranges.append(argument)
            case _:
                classes.append(_class_of(str(argument)))

    def test(char: str) -> bool:
        is_listed = char in chars or any(low <= ord(char) <= high for low, high in ranges)
        return (is_listed or any(is_member(char) for is_member in classes)) is not negated

    return test


def _class_of(name: str) -> Callable[[str], bool]:
    is_member = _CLASSES[name.replace("_NOT_", "_")]
    return (lambda char: not is_member(char)) if "_NOT_" in name else is_member


def _holds(at: str, text: str, position: int) -> bool:
    match at:
        case "AT_BEGINNING" | "AT_BEGINNING_STRING":
            return position == 0
        case "AT_END" | "AT_END_STRING":
            return position == len(text)
        case _:
            is_word = _CLASSES["CATEGORY_WORD"]
            before = position > 0 and is_word(text[position - 1])
            after = position < len(text) and is_word(text[position])
            return (before != after) is (at == "AT_BOUNDARY")
