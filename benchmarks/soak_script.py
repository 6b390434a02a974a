"""Script of the soak's server: roots that execute the cell in their question, and leaves with faults at random."""

from __future__ import annotations

import random

from rlm.testing.wire import ChatCall, ScriptedReply, StreamShape

RANDOM = random.Random(0)
FAULTS_PERCENT = 15
BAD_BODIES = ("", "[]", '{"choices": 5}', '{"choices": [{"message": {"content": 1e999}}]}', "<html>502</html>", "\x00")
CODE_MARK = "\n#code\n"
"""Stands between a question and the cell that its root executes."""


def answer(call: ChatCall) -> ScriptedReply:
    """A root executes the code of its question in its first turn, and gives up its answer in any later one."""
    if not call.is_root:
        return answer_leaf(call)
    code = call.messages[1].text.partition(CODE_MARK)[2].partition(CODE_MARK)[0]
    if call.turn > 1 or not code:
        return ScriptedReply("FINAL(late)", latency_s=0.01)
    shape = None if RANDOM.random() < 0.1 else StreamShape(delay_s=0.001)
    return ScriptedReply(f"```repl\n{code}\n```", latency_s=0.01, stream=shape)


def answer_leaf(call: ChatCall) -> ScriptedReply:
    """A leaf of 20 ms. The prompt's first word selects a fault; otherwise some calls fail at random."""
    word = call.prompt.partition(" ")[0]
    if word in ("reset", "hang", "storm", "garbled") and RANDOM.random() < 0.5:
        return fault(word)
    if word == "plain" and RANDOM.randrange(100) < FAULTS_PERCENT:
        return fault(RANDOM.choice(("reset", "storm", "garbled", "cut", "slow")))
    return ScriptedReply(f"reply to {call.prompt[:40]}", latency_s=0.02)


def fault(kind: str) -> ScriptedReply:
    """A reply with one fault."""
    match kind:
        case "reset":
            return ScriptedReply(reset=True)
        case "hang":
            return ScriptedReply(hang=True)
        case "storm":
            return ScriptedReply("slow down", status=429, headers={"Retry-After": "0.1"})
        case "cut":
            return ScriptedReply("a reply that is cut in the middle", cut=True)
        case "slow":
            return ScriptedReply("a slow reply", slow_body_s=0.3)
        case _:
            return ScriptedReply(body=RANDOM.choice(BAD_BODIES))
