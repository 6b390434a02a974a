"""Script of the comparison's server: leaves have a latency, roots have none. The model name identifies the engine.

python -m rlm.testing.server --script benchmarks.peers.script:answer
"""

from __future__ import annotations

import re

from benchmarks.peers.dialects import DIALECTS, LEAF, LEAF_LATENCY_S, child_code, done, scenario_code
from rlm.testing.wire import ChatCall, ScriptedReply

_SCENARIO = re.compile(r"SCENARIO:(\w+)")


def answer(call: ChatCall) -> ScriptedReply:
    """Next reply to a leaf, a child node, or a root within its scenario."""
    if call.prompt.startswith(LEAF):
        return ScriptedReply("yes", latency_s=LEAF_LATENCY_S)
    dialect = DIALECTS[call.model.rpartition("-")[2]]
    conversation = "\n".join(message.text for message in call.messages)
    scenario = _SCENARIO.search(conversation)
    if scenario is None:
        return ScriptedReply(dialect.fence.format(code=child_code(dialect)))
    turn = 0
    while done(turn) in conversation:
        turn += 1
    return ScriptedReply(dialect.fence.format(code=scenario_code(dialect, scenario[1], turn)))
