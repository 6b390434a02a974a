"""Feeds: the prompts of one caller, checked and encoded a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ..wire.pieces import check_size, dump_value
from ..wire.values import type_name
from .open_calls import FRAME_BYTES, Group, Job, Payload, encode_prompt


def check_prompt(prompt: object, where: str) -> str:
    if isinstance(prompt, str):
        return prompt
    if asyncio.iscoroutine(prompt):
        raise TypeError(f"{where} is a coroutine that was never awaited: write `await` before the call that made it")
    advice: dict[type, str] = {
        dict: "put what matters into one text, for instance with json.dumps(...)",
        list: "join the texts, or use llm_query_batch(prompts) for one call each",
        bytes: "decode it first",
    }
    how = advice.get(type(prompt), "convert it with str(...)")
    raise TypeError(f"{where} must be a str, not {type_name(prompt)}: {how}")


def check_prompts(prompts: object) -> Iterable[object]:
    if isinstance(prompts, str):
        raise TypeError("prompts must be a list of str, not one str: use llm_query(prompt), or [prompt]")
    if isinstance(prompts, dict):
        raise TypeError("prompts must be a list of str, not a dict: use list(prompts.values())")
    if not isinstance(prompts, Iterable):
        raise TypeError(f"prompts must be a list of str, not {type_name(prompts)}")
    return prompts


def check_call(prompt: bytes, contexts: Sequence[Payload]) -> None:
    """Raises TooLarge for a prompt that is too large together with its context."""
    check_size(len(prompt) + sum(len(payload) for _, payload in contexts))


class Feed:
    """Prompts of one caller, taken a few at a time. A generator never runs further than there is room."""

    def __init__(self, prompts: Iterable[object], context: object) -> None:
        one_each = isinstance(context, list)
        if one_each or isinstance(prompts, (list, tuple)):
            prompts = list(prompts)
            for index, prompt in enumerate(prompts):  # before anything is sent and paid for
                check_size(len(check_prompt(prompt, f"prompts[{index}]")))
            one_each = one_each and len(prompts) == len(context)  # type: ignore[arg-type]
        self._left = len(prompts) if isinstance(prompts, list) else None
        self._prompts = iter(prompts)
        self._each: list[object] | None = context if one_each else None  # type: ignore[assignment]
        self._same: Sequence[Payload] = () if context is None or one_each else (dump_value(context),)
        self.taken = 0

    def take(self, group: Group, limit: int, options: bytes) -> Job | None:
        """Takes the next prompts as a job; None if there are no more. Runs the caller's generator."""
        batch: list[bytes] = []
        contexts: list[Payload] = []
        size, first = 0, self.taken
        while len(batch) < limit and size < FRAME_BYTES:
            if self._left == self.taken:
                group.fed = True
                break
            try:
                prompt = next(self._prompts)
            except StopIteration:
                group.fed = True
                break
            batch.append(encode_prompt(check_prompt(prompt, f"prompts[{self.taken}]")))
            size += len(batch[-1])
            if self._each is not None:
                contexts.append(dump_value(self._each[self.taken]))
                size += len(contexts[-1][1])
            check_call(batch[-1], contexts[-1:] or self._same)
            self.taken += 1
        if self._left == self.taken:
            group.fed = True
        if not batch:
            return None
        return Job(group, first, batch, options, contexts or self._same)


class Single:
    """A Feed of one prompt."""

    def __init__(self, prompt: object, context: object) -> None:
        self._prompt = encode_prompt(check_prompt(prompt, "prompt"))
        self._contexts: Sequence[Payload] = () if context is None else (dump_value(context),)
        check_call(self._prompt, self._contexts)

    def take(self, group: Group, _limit: int, options: bytes) -> Job:
        group.fed = True
        return Job(group, 0, [self._prompt], options, self._contexts)


class BudgetFeed:
    """A Feed of one budget query."""

    def take(self, group: Group, _limit: int, _options: bytes) -> Job:
        group.fed = True
        return Job(group, 0, [b""], kind="budget")
