"""The process that the torture test kills: one run over a tree of depth 3, started or resumed.

    python torture_program.py begin|resume STORE BASE_URL

Prints the answer as JSON. Its model is in ``answer``, which the test's server uses.
"""

from __future__ import annotations

import json
import re
import sys

import rlm
from rlm.testing.wire import ChatCall, ScriptedReply

CONTEXT = "alpha beta gamma delta " * 50

ROOT = [
    """
import random, time, threading, uuid
mark = f"{random.random():.6f} {uuid.uuid4()} {time.time():.3f}"
words = context.split()[:6]
first = [llm_query(f"one {word}{i} {mark}", recursive=False) for i, word in enumerate(words)]
print(mark, first)
""",
    """
done, lock = [], threading.Lock()
def work(i):
    found = llm_query(f"thread {i} {len(first)}", recursive=False)
    with lock:
        done.append(found)
    more = llm_query(f"again {i} {found}", recursive=False)
    with lock:
        done.append(more)
threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
[t.start() for t in threads]; [t.join() for t in threads]
print(done, {"x", "y", "z", *words})
""",
    """
import asyncio
async def chain(i):
    one = await llm_query_async(f"chain {i} {done[i]}", recursive=False)
    return await llm_query_async(f"link {i} {one}", recursive=False)
chained = await asyncio.gather(*[chain(i) for i in range(5)])
mixed = llm_query_batch([f"bad {i}" if i % 4 == 3 else f"good {i} {chained[0]}" for i in range(8)], recursive=False)
print([type(m).__name__ for m in mixed])
""",
    """
children = llm_query_batch([f"child {i}: {mixed[0]}" for i in range(3)])
FINAL({"children": children, "done": done, "chained": chained, "failed": sum(isinstance(m, FailedCall) for m in mixed),
       "mark": mark})
""",
]
CHILD = [
    """
mine = llm_query_batch([f"part {i} of {context[:9]} {{level}}" for i in range(3)], recursive=False)
print(mine)
""",
    """
below = [llm_query(f"below {i} {mine[i]}") for i in range(2)]
FINAL("child(" + "; ".join(str(b) for b in below) + ")")
""",
]


def answer(call: ChatCall) -> str | ScriptedReply:
    """Every reply follows from what was asked, so that all runs of one seed are the same."""
    texts = [message.text for message in call.messages]
    if not call.is_root:
        if texts[-1].startswith("bad"):
            return ScriptedReply("no", status=400)
        return "<" + re.sub(r"[^a-z0-9]+", "-", texts[-1].lower())[:24] + ">"
    turn = call.turn - 1
    cells = ROOT if "torture" in texts[1] else CHILD
    return f"```repl\n{cells[turn]}\n```"


def main() -> None:
    what, store, base_url = sys.argv[1:]
    with rlm.RLM(
        "openai:root", base_url=base_url, api_key="test-key", max_depth=3, store=store, concurrency=8, retries=2
    ) as engine:
        result = engine.run("torture", CONTEXT) if what == "begin" else engine.resume("last")
    print(json.dumps(result.answer))


if __name__ == "__main__":
    main()
