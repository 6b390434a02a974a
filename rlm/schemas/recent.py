"""Remembers what was made of recent schemas: the calls of a batch share one schema object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from rlm.core.messages import JsonSchema

MOST = 64

V = TypeVar("V")


class RecentSchemas(Generic[V]):
    """Values by the identity of their schema. An entry holds its schema, so that no other object gets its identity.

    It is for schemas that nothing changes any more, such as those of requests.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[JsonSchema, V]] = {}

    def find(self, schema: JsonSchema) -> V | None:
        """The value of a schema; None if it is not a recent one."""
        entry = self._entries.get(id(schema))
        return None if entry is None else entry[1]

    def add(self, schema: JsonSchema, value: V) -> V:
        """Remembers a value, and returns it."""
        if len(self._entries) >= MOST:
            self._entries.clear()
        self._entries[id(schema)] = (schema, value)
        return value

    def get(self, schema: JsonSchema, make: Callable[[JsonSchema], V]) -> V:
        """The value of a schema, made if it is not a recent one."""
        value = self.find(schema)
        return self.add(schema, make(schema)) if value is None else value
