"""Script of the server behind ``benchmarks.curves``: the size of the work is in the question, and leaves take 0.2 s."""

from __future__ import annotations

from collections import Counter

from rlm.testing.wire import ChatCall, ScriptedReply

LATENCY_S = 0.2
SLOW_S = 10.0

NODE = """
kind, *numbers = context.split()[:3]
if kind == "nest" and int(numbers[0]) > 1:
    below, width = int(numbers[0]) - 1, int(numbers[1])
    replies = llm_query_batch([f"nest {below} {width} {i}" for i in range(width)])
    FINAL(str(sum(map(int, replies))))
count = int(numbers[1] if kind == "nest" else numbers[0])
label = f"Slow {numbers[1]} item" if kind == "tail" else "Label item"
replies = llm_query_batch([f"{label} {i}." for i in range(count)])
FINAL(str(replies.count("label")))
"""
SIZE = "FINAL([len(context), str(context[-1])[-1:]])"
NOTHING = "FINAL('done')"

asked = Counter[str]()


def answer(call: ChatCall) -> ScriptedReply:
    """Nodes get the cell that does the work; only the root of a tree has no latency."""
    if not call.is_root:
        return answer_leaf(call)
    question = call.messages[1].text.partition("Question: ")[2].partition("\n")[0]
    cells = {"size": SIZE, "nothing": NOTHING}
    latency_s = 0.0 if question in {*cells, "work"} else LATENCY_S
    return ScriptedReply(f"```repl\n{cells.get(question, NODE)}\n```", latency_s=latency_s)


def answer_leaf(call: ChatCall) -> ScriptedReply:
    """A leaf of 0.2 s. Of the leaves "Slow N item I.", the first N take 10 s, but not when they are asked again."""
    kind, *words = call.prompt.rstrip(".").split()
    asked[call.prompt] += kind == "Slow"
    if kind == "Slow" and int(words[2]) < int(words[0]) and asked[call.prompt] % 2:
        return ScriptedReply("label", latency_s=SLOW_S)
    return ScriptedReply("label", latency_s=LATENCY_S)
