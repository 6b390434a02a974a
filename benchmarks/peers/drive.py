"""Runs one scenario with one engine, in that engine's environment, and prints its seconds as JSON.

    python drive.py ENGINE BASE_URL SCENARIO [CONTEXT_CHARS]

It imports only ``dialects.py`` beside it, so that any environment can run it. An engine is a class with a ``run`` method for one
question. The import of the engine is timed in the scenario "cold" only.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parent))

from dialects import EXPECTED, TURNS

BEGAN = time.perf_counter()
MANY = 50
REPEATS = 3
MAX_TURNS = 30
MAX_CALLS = 10_000
KEY = "sk-none"


class Engine(Protocol):
    def run(self, question: str, context: str, depth: int) -> object: ...


class Arbor:
    """This package."""

    def __init__(self, base_url: str) -> None:
        import rlm  # noqa: PLC0415 - only the measured engine is installed

        self._engines = {
            depth: rlm.RLM(
                "openai:bench-arbor", base_url=base_url, api_key=KEY, max_depth=depth, max_iterations=MAX_TURNS
            )
            for depth in (1, 2)
        }

    def run(self, question: str, context: str, depth: int) -> object:
        return self._engines[depth].run(question, context).answer


class Official:
    """The library of the paper's authors (rlms)."""

    def __init__(self, base_url: str) -> None:
        from rlm import RLM  # noqa: PLC0415 - only the measured engine is installed

        self._make = lambda depth: RLM(
            backend="openai",
            backend_kwargs={"model_name": "bench-rlms", "base_url": base_url, "api_key": KEY},
            max_depth=depth,
            max_iterations=MAX_TURNS,
        )

    def run(self, question: str, context: str, depth: int) -> object:
        return self._make(depth).completion(context, root_prompt=question).response


class Dspy:
    """dspy.RLM with its default interpreter, Pyodide under Deno."""

    def __init__(self, base_url: str) -> None:
        import dspy  # noqa: PLC0415 - only the measured engine is installed

        self._dspy = dspy
        self._lm = dspy.LM("openai/bench-dspy", api_base=base_url, api_key=KEY, cache=False)

    def run(self, question: str, context: str, depth: int) -> object:
        dspy = self._dspy
        with dspy.context(lm=self._lm):
            engine = dspy.RLM(
                "context, query -> answer",
                max_iters=MAX_TURNS,
                max_llm_calls=MAX_CALLS,
                interpreter_factory=self.open_interpreter,
            )
            return engine(context=context, query=question).answer

    def open_interpreter(self) -> Any:
        """Opens the default interpreter, with its runner's network import mapped to a local file."""
        interpreter = self._dspy.PythonInterpreter()
        here = Path(__file__).parent
        mapped = {"imports": {"https://deno.land/std@0.186.0/io/mod.ts": (here / "read_lines.js").as_uri()}}
        encoded = base64.b64encode(json.dumps(mapped).encode()).decode()
        interpreter.deno_command.insert(2, f"--import-map=data:application/json;base64,{encoded}")
        return interpreter


class DspyLocal(Dspy):
    """dspy.RLM with its unsandboxed interpreter, a plain process."""

    def open_interpreter(self) -> Any:
        return self._dspy.LocalInterpreter()


class MinRlm:
    """minrlm in its plain form."""

    def __init__(self, base_url: str) -> None:
        from minrlm import RLMBase  # noqa: PLC0415 - only the measured engine is installed

        self._make = lambda: RLMBase(
            "bench-minrlm",
            base_url=base_url,
            api_key=KEY,
            max_iterations=MAX_TURNS,
            max_sub_llm_calls=MAX_CALLS,
        )

    def run(self, question: str, context: str, depth: int) -> object:
        if depth > 1:
            raise NotImplementedError("no nested runs")
        return self._make().completion(question, context).response


ENGINES: dict[str, Any] = {
    "arbor": Arbor,
    "rlms": Official,
    "dspy": Dspy,
    "dspy-local": DspyLocal,
    "minrlm": MinRlm,
}


def check(answer: object, scenario: str) -> None:
    """Raises if the answer is wrong, because only completed work is timed."""
    if str(answer).strip() != str(EXPECTED[scenario]):
        raise RuntimeError(f"answered {str(answer)[:200]!r} instead of {EXPECTED[scenario]}")


def run_once(engine: Engine, scenario: str, context: str) -> float:
    began = time.perf_counter()
    answer = engine.run(f"SCENARIO:{scenario}", context, 2 if scenario == "nested" else 1)
    took = time.perf_counter() - began
    check(answer, scenario)
    return took


def run_many(engine: Engine) -> tuple[float, list[str]]:
    """Seconds of fifty concurrent runs in fifty threads, and the errors of failed ones."""
    wrong: list[str] = []
    barrier = threading.Barrier(MANY)

    def one() -> None:
        barrier.wait()
        try:
            run_once(engine, "many", "some context")
        except Exception as error:  # noqa: BLE001 - counted
            wrong.append(f"{type(error).__name__}: {error}"[:200])

    began = time.perf_counter()
    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(lambda _: one(), range(MANY)))
    return time.perf_counter() - began, wrong


def measure(name: str, base_url: str, scenario: str, chars: int) -> dict[str, Any]:
    """Sorted seconds of a scenario. The first run of a process starts sandboxes and connections, and is discarded."""
    engine: Engine = ENGINES[name](base_url)
    if scenario == "cold":
        run_once(engine, "cold", "some context")
        return {"seconds": [time.perf_counter() - BEGAN]}
    context = "0123456789abcde\n" * max(1, chars // 16)
    run_once(engine, "cold", "some context")
    if scenario == "many":
        seconds, wrong = run_many(engine)
        return {"seconds": [seconds], "right": MANY - len(wrong), "of": MANY, "wrong": sorted(set(wrong))[:3]}
    took = sorted(run_once(engine, scenario, context) for _ in range(REPEATS))
    if scenario == "turns":
        took = [seconds / (TURNS + 1) for seconds in took]
    return {"seconds": took}


def main() -> None:
    name, base_url, scenario, *rest = sys.argv[1:]
    out, sys.stdout = sys.stdout, sys.stderr  # engines print
    report = measure(name, base_url, scenario, int(rest[0]) if rest else 12)
    print(json.dumps(report), file=out, flush=True)
    os._exit(0)  # some engines leave threads that would block the exit


if __name__ == "__main__":
    main()
