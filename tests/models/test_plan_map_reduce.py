"""The default plan in the real engine and sandbox, over scripted leaves: a capable one and a small, unreliable one."""

from __future__ import annotations

import re

import pytest

import rlm
from rlm.core.cells import PlainValue
from rlm.core.errors import RequestRejectedError
from rlm.core.messages import Request
from rlm.testing import ScriptedModel
from rlm.testing.scripted import ScriptedAnswer

FILLER = "The tide was low and the gulls walked about on the wet sand. Nobody spoke of it afterwards. "


def haystack(*needles: str, paragraphs: int = 120) -> str:
    """Paragraphs of 400 characters, the needles spread evenly among them."""
    texts = [f"{FILLER * 4}({n})" for n in range(paragraphs)]
    for n, needle in enumerate(needles):
        texts.insert((n + 1) * paragraphs // (len(needles) + 1), needle)
    return "\n\n".join(texts)


async def run(
    leaf: ScriptedModel, question: str, context: PlainValue, *, max_depth: int = 1
) -> tuple[str, list[str], rlm.Result]:
    result = await rlm.RLM("plan:map_reduce", sub_model=leaf, max_depth=max_depth, retries=0).arun(question, context)
    assert isinstance(result.answer, str)
    return result.answer, [request.messages[-1].text for request in leaf.requests], result


# A capable leaf: it notes, and answers from notes.


def capable(request: Request) -> ScriptedAnswer:
    prompt = request.messages[-1].text
    found = re.findall(r"The password of (\w+) is (\w+)", prompt)
    if "Here is one part" in prompt:
        return "; ".join(f"The password of {who} is {what}" for who, what in found) or "NONE"
    return "Merged: " + "; ".join(sorted({f"The password of {who} is {what}" for who, what in found}))


async def test_capable_leaf_reads_each_chunk_once() -> None:
    context = haystack(*(f"The password of {who} is {who[::-1]}." for who in ("Anna", "Boris", "Clara")))
    leaf = ScriptedModel(capable, name="scripted:leaf", window_tokens=8_192)
    answer, prompts, result = await run(leaf, "Which passwords are there?", context)
    assert all(f"{who} is {who[::-1]}" in answer for who in ("Anna", "Boris", "Clara"))
    parts = [prompt for prompt in prompts if "Here is one part" in prompt]
    assert len(parts) >= 3
    assert len(prompts) == len(parts) + 1
    for n in range(120):
        assert sum(f"({n})" in part for part in parts) == 1
    assert max(map(len, prompts)) <= 8_192 * 0.85 * 3
    shared = {part.partition("Part ")[0] for part in parts}
    assert len(shared) == 1, "the instruction comes first, so that the prompts share a prefix"
    assert result.tree is not None
    assert len({call.batch for call in result.tree.leaves if call.batch is not None}) == 2


async def test_long_notes_are_merged_in_rounds() -> None:
    def verbose(request: Request) -> ScriptedAnswer:
        prompt = request.messages[-1].text
        if "Here is one part" in prompt:
            return f"Note {prompt.count('gulls')}. " + "detail " * 700
        return "merged" if "Merge these notes" in prompt else "the end"

    leaf = ScriptedModel(verbose, name="scripted:leaf", window_tokens=8_192)
    answer, prompts, _ = await run(leaf, "What happens?", haystack(paragraphs=400))
    assert answer == "the end"
    assert sum("Merge these notes" in prompt for prompt in prompts) >= 2
    assert max(map(len, prompts)) <= 8_192 * 0.85 * 3


async def test_answer_reports_unread_parts() -> None:
    def failing(request: Request) -> ScriptedAnswer:
        return RequestRejectedError("no") if "(5)" in request.messages[-1].text else capable(request)

    leaf = ScriptedModel(failing, name="scripted:leaf", window_tokens=8_192)
    answer, prompts, _ = await run(leaf, "Which passwords?", haystack("The password of Anna is xyz."))
    assert "Anna is xyz" in answer
    assert re.search(rf"\(1 of {len(prompts) - 1} parts could not be read: RequestRejectedError", answer)


async def test_no_findings_need_no_further_call() -> None:
    leaf = ScriptedModel(lambda _: "NONE", name="scripted:leaf", window_tokens=8_192)
    answer, prompts, _ = await run(leaf, "Which passwords?", haystack())
    assert answer == "Nothing in the text answers this."
    assert all("Here is one part" in prompt for prompt in prompts)


@pytest.mark.parametrize(
    "context",
    [
        ["first", "The password of Anna is xyz", "last"],
        {"a": "first", "b": ["The password of Anna is xyz"]},
        [{"role": "user", "content": "The password of Anna is xyz"}],
    ],
)
async def test_lists_and_dicts_are_read(context: PlainValue) -> None:
    leaf = ScriptedModel(capable, name="scripted:leaf")
    answer, prompts, _ = await run(leaf, "Which passwords?", context)
    assert "Anna is xyz" in answer
    assert len(prompts) == 2


# A small leaf: it answers always, mostly wrong.


def small(request: Request) -> ScriptedAnswer:
    """Like SmolLM2: right if the text plainly says it, otherwise an invention."""
    prompt = request.messages[-1].text
    said = re.search(r"The harbour master of Elmport is (\w+ \w+)", prompt.partition("Text:")[2])
    return f"The harbour master of Elmport is {said[1] if said else 'Grimbold Tredwell'}."


async def test_small_leaf_needs_support_in_text() -> None:
    context = haystack(
        "Elmport had a harbour, and its master was feared.", "The harbour master of Elmport is Ida Quist.", FILLER
    )
    leaf = ScriptedModel(small, name="scripted:leaf", window_tokens=2_048)
    answer, prompts, _ = await run(leaf, "Who is the harbour master of Elmport?", context)
    assert answer.startswith("The harbour master of Elmport is Ida Quist.")
    assert "see for yourself" in answer
    assert "Grimbold" not in answer
    assert max(map(len, prompts)) <= 2_048 * 0.85 * 3


async def test_unsupported_reply_is_not_the_answer() -> None:
    leaf = ScriptedModel(lambda _: "It is Grimbold Tredwell.", name="scripted:leaf", window_tokens=2_048)
    answer, _, _ = await run(leaf, "Who is the harbour master of Elmport?", haystack("Elmport had a harbour master."))
    assert answer.startswith("No passage was found that answers this.")
    assert "“" in answer
    assert "Elmport had a harbour master." in answer


async def test_failing_small_leaf_does_not_end_run() -> None:
    leaf = ScriptedModel(lambda _: RequestRejectedError("no"), name="scripted:leaf", window_tokens=2_048)
    answer, _, _ = await run(leaf, "Who is the harbour master?", haystack("The harbour master slept."))
    assert answer.startswith("No passage was found")
    assert "RequestRejectedError" in answer


async def test_search_ignores_accents_and_endings() -> None:
    leaf = ScriptedModel(
        lambda request: "Kutuzov" if "Kutúzov" in request.messages[-1].text else "NONE",
        name="scripted:leaf",
        window_tokens=2_048,
    )
    context = haystack("At Braunau the commander of the armies, Kutúzov, held a review.")
    answer, _, _ = await run(leaf, "Who commanded the army at Braunau?", context)
    assert answer.startswith("Kutuzov\n")


async def test_closest_passages_are_shown_without_sub_calls() -> None:
    leaf = ScriptedModel([], name="scripted:leaf")
    answer, prompts, _ = await run(
        leaf, "Who is the harbour master?", haystack("The harbour master is Ida."), max_depth=0
    )
    assert prompts == []
    assert "The harbour master is Ida." in answer


async def test_empty_input_is_accepted() -> None:
    for window in (2_048, 128_000):
        leaf = ScriptedModel(lambda _: "NONE", name="scripted:leaf", window_tokens=window)
        answer, _, _ = await run(leaf, "Who?", "")
        assert answer.startswith("No")
