"""Event stream of a run, filtered by event type. Requires OPENAI_API_KEY.

python examples/watch.py FILE "question"
"""

import asyncio
import sys
from pathlib import Path

import rlm
from rlm.events import CallReplied, CellExecuted, NodeStarted


async def watch(question: str, text: str) -> None:
    engine = rlm.RLM("gpt-4o", sub_model="gpt-4o-mini", max_depth=2)
    stream = engine.stream(question, text)
    async for event in stream:
        match event:
            case NodeStarted():
                print(f"{event.at_s:6.2f} s  node {event.node} starts at depth {event.depth}")
            case CellExecuted():
                print(f"{event.at_s:6.2f} s  node {event.node} ran cell {event.cell.name}: {event.result.end}")
            case CallReplied() if "@" not in event.call:
                print(f"{event.at_s:6.2f} s  call {event.call} answered by {event.reply.model}")
            case _:
                pass
    print(stream.result.answer)


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[2], Path(sys.argv[1]).read_text(encoding="utf-8")))
