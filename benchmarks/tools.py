"""Cost of a tool call beside a sub-call that is answered at once: ``python -m benchmarks.tools [--calls N] [--rounds N]``.

Cells of one engine alternate between the kinds, each of which makes the same number of calls. Ratios are comparable between
machines. Runs are recorded in a store, so a tool call includes its two flushes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path

import rlm
from rlm.core.messages import Request
from rlm.testing.scripted import ScriptedModel

CELLS = {
    "sub-call, blocking": "for n in range({n}): llm_query(str(n))",
    "tool, blocking, a function": "for n in range({n}): plain(n)",
    "tool, blocking, a coroutine": "for n in range({n}): waits(n)",
    "sub-calls, gathered": "import asyncio\nawait asyncio.gather(*(llm_query_async(str(n)) for n in range({n})))",
    "tools, gathered, functions": "import asyncio\nawait asyncio.gather(*(plain_async(n) for n in range({n})))",
    "tools, gathered, coroutines": "import asyncio\nawait asyncio.gather(*(waits_async(n) for n in range({n})))",
}


def plain(number: int) -> int:
    """Returns the number."""
    return number


async def waits(number: int) -> int:
    """Returns the number after one turn of the event loop."""
    await asyncio.sleep(0)
    return number


def measure(calls: int, rounds: int, store: Path) -> dict[str, float]:
    """Milliseconds for one call of each kind: the median over rounds."""
    codes = [code.format(n=calls) for code in CELLS.values()] * (rounds + 1)

    def reply(request: Request) -> str:
        turn = sum(message.role == "assistant" for message in request.messages)
        if request.role == "leaf":
            return "x"
        return f"```repl\n{codes[turn]}\n```" if turn < len(codes) else "FINAL(done)"

    model = ScriptedModel(reply)
    tools = [plain, waits]
    with rlm.RLM(model, tools=tools, store=store, max_iterations=len(codes) + 1, prefetch=False) as engine:
        result = engine.run("question", "context")
    assert result.tree is not None
    times = [cell.elapsed_s for _, cell in result.tree.cells][len(CELLS) :]  # the first round warms up
    return {name: 1000 * statistics.median(times[at :: len(CELLS)]) / calls for at, name in enumerate(CELLS)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(chosen.calls, chosen.rounds, Path(folder) / "runs.db")
    for name, ms in figures.items():
        base = figures["sub-calls, gathered" if "gathered" in name else "sub-call, blocking"]
        print(f"{name:<32}{ms:8.3f} ms {ms / base:6.2f} x the sub-call")


if __name__ == "__main__":
    main()
