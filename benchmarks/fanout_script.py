"""Script of the fan-out benchmark's server: one root per case, and leaves of 0.2 s."""

from __future__ import annotations

import itertools

from rlm.testing.wire import ChatCall, ScriptedReply

LATENCY_S = 0.2
SLOTS = 20  # of the model "twenty", which refuses all calls beyond them
TAIL_EVERY, TAIL_S = 100, 10.0  # 1 % of the tail case's calls take 10 s
HANG_EVERY = 10  # requests of the hang case, of which the eighth hangs

BATCH = "replies = llm_query_batch([f'Label item {i}.' for i in range(%d)])\nassert replies[-1] == 'label', replies[-1]"
LOOP = "replies = []\nfor i in range(20):\n    replies.append(llm_query(f'Label item {i}.'))"
OF_KIND = "replies = llm_query_batch([f'%s item {i}.' for i in range(%d)])\nFINAL(len(replies))"
GROUPS = (
    "replies = []\nfor g in range(6):\n    replies += llm_query_batch([f'Label item {10 * g + i}.' for i in range(10)])"
)
CELLS = {
    "batch 10": BATCH % 10 + "\nFINAL(len(replies))",
    "batch 20": BATCH % 20 + "\nFINAL(len(replies))",
    "batch 100": BATCH % 100 + "\nFINAL(len(replies))",
    "batch 1000": BATCH % 1000 + "\nFINAL(len(replies))",
    "loop 20": LOOP + "\nFINAL(len(replies))",
    "shared 20": "replies = llm_query_batch([context + f'Item {i}' for i in range(20)])\nFINAL(len(replies))",
    "groups": GROUPS + "\nFINAL(len(replies))",
    "tree": "replies = llm_query_batch([f'child {i}' for i in range(10)])\nFINAL(sum(map(int, replies)))",
    "batch 50": BATCH % 50 + "\nFINAL(len(replies))",
    "tail": OF_KIND % ("Tail", 200),
    "hang": OF_KIND % ("Hang", 10),
    "nothing": "FINAL('done')",
}
CHILD_CELL = BATCH % 10 + "\nFINAL(str(len(replies)))"


tail_numbers, hang_numbers = itertools.count(), itertools.count()


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


def answer(call: ChatCall) -> ScriptedReply:
    """Selects the reply: nodes by their system prompt, cases by their question."""
    if not call.is_root and call.prompt.startswith("Generated"):
        return ScriptedReply("label", latency_s=0)
    if (
        not call.is_root and len(call.prompt) > 1000
    ):  # the first token after a quarter of the time, as for a long prompt
        return ScriptedReply("label and reason", latency_s=LATENCY_S / 4, slow_body_s=LATENCY_S * 3 / 4)
    if not call.is_root:
        return answer_leaf(call)
    question = call.messages[1].text.partition("Question: ")[2].partition("\n")[0]
    if question == "turns":
        last = call.turn == 20
        return ScriptedReply(cell("FINAL(x)" if last else f"x = {call.turn}\nprint(x, len(context))"), latency_s=0)
    if question.startswith("generator "):
        count = int(question.split()[1])
        return ScriptedReply(
            cell(f"FINAL(len(llm_query_batch(context + str(i) for i in range({count}))))"), latency_s=0
        )
    if question in CELLS:
        return ScriptedReply(cell(CELLS[question]), latency_s=0)
    return ScriptedReply(cell(CHILD_CELL), latency_s=LATENCY_S)


def answer_leaf(call: ChatCall) -> ScriptedReply:
    """A leaf of 0.2 s, unless its case refuses it, delays it or lets it hang."""
    if call.model == "twenty" and call.in_flight > SLOTS:
        return ScriptedReply("slow down", status=429, latency_s=0)
    if call.prompt.startswith("Tail") and next(tail_numbers) % TAIL_EVERY == TAIL_EVERY - 1:
        return ScriptedReply("label", latency_s=TAIL_S)
    if call.prompt.startswith("Hang") and next(hang_numbers) % (HANG_EVERY + 1) == HANG_EVERY - 3:
        return ScriptedReply(hang=True)
    return ScriptedReply("label", latency_s=LATENCY_S)
