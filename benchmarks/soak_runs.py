"""Kinds of runs of the soak. Each ends with a result that is checked, or with an error of the package's tree."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rlm
from benchmarks.soak_curves import descendants
from benchmarks.soak_script import CODE_MARK
from rlm.repl import REPLEnv
from rlm.views.plain import PlainView

KEPT_RUNS = 40  # in the store; older ones are deleted
CHILD = "llm_query('child of the run')"


def question(code: str) -> str:
    """A question whose root executes ``code``."""
    return f"Question with a cell.{CODE_MARK}{code}{CODE_MARK}"


def batch(word: str, count: int) -> str:
    """A cell that sends a batch whose prompts begin with ``word``, and answers with the number of replies."""
    return f"replies = llm_query_batch([f'{word} item {{i}}' for i in range({count})])\nFINAL(len(replies))"


@dataclass
class Soak:
    """The engine under test, and its outcomes.

    Attributes:
        outcomes: how often each kind of run ended in which way.
        surprises: wrong answers, and errors that are not of the package's tree.
    """

    base_url: str
    folder: Path
    random: random.Random
    server_pid: int
    outcomes: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = self.folder / "soak.db"
        self.engine = self.new_engine()
        self.documents = self.folder / "documents"
        self.documents.mkdir(exist_ok=True)
        for number in range(5):
            (self.documents / f"file-{number}.txt").write_text(f"Line of file {number}.\n" * 2_000)

    def new_engine(self, **options: Any) -> rlm.RLM:
        given = {"max_depth": 2, "retry_seconds": 2.0, "retries": 2, "call_timeout_s": 1.0, "cell_seconds": 5.0}
        given |= {"base_url": self.base_url, "api_key": "none", "store": self.store, "memory_mb": 256}
        return rlm.RLM("openai:soak", **(given | options))

    def run_one(self) -> None:
        """A run of a random kind."""
        kind = self.random.choice(KINDS)
        name = kind.__name__
        try:
            kind(self)
        except rlm.RLMError as error:
            self.outcomes[f"{name}: {type(error).__name__}"] += 1
        except AssertionError as error:
            self.surprises.append(f"{name}: wrong outcome {error}"[:500])
        except Exception as error:  # noqa: BLE001  such an error is a finding of the soak
            self.surprises.append(f"{name}: {type(error).__name__}: {error}"[:500])
        else:
            self.outcomes[f"{name}: ended"] += 1

    def prune(self) -> None:
        """Deletes all runs but the newest, in the file and in memory."""
        for place in (self.store, "memory"):
            with rlm.open_store(place) as store:
                old = [info.id for info in store.runs()[KEPT_RUNS:]]
                if old:
                    store.delete(*old)

    def close(self) -> None:
        self.engine.close()


def leaves(soak: Soak) -> None:
    result = soak.engine.run(question(batch("plain", 30)), "a context")
    assert result.answer == 30, result.answer


def large_context(soak: Soak) -> None:
    size = 200_000 + soak.random.randrange(1_000_000)
    result = soak.engine.run(question("FINAL(len(context))"), "x" * size)
    assert result.answer == size, result.answer


def tree(soak: Soak) -> None:
    soak.engine.run(question("FINAL(llm_query_batch(['child ' + str(i) for i in range(4)]))"), "a context")


def documents(soak: Soak) -> None:
    found = rlm.load(str(soak.documents))
    result = soak.engine.run(question("FINAL(len(context))"), found)
    assert result.answer == 5, result.answer
    assert result.coverage is not None


def resume_after_limit(soak: Soak) -> None:
    handle = soak.engine.start(question(batch("slow", 20)), "a context")
    time.sleep(soak.random.random() * 0.2)
    handle.cancel()
    try:
        handle.result(20)
    except rlm.RunCancelledError:
        soak.engine.resume(handle.run_id)


def replay(soak: Soak) -> None:
    result = soak.engine.run(question(batch("steady", 10)), "a context")
    again = soak.engine.replay(result.run_id)
    assert again.answer == result.answer, (again.answer, result.answer)


def older_class(soak: Soak) -> None:
    model = "openai:soak"
    older = rlm.RLM_REPL(model, model, enable_logging=False, api_key="none", base_url=soak.base_url)
    with older.engine:
        assert older.completion("a context", question("FINAL(1 + 1)")) == "2"


def plain_repl(soak: Soak) -> None:
    with REPLEnv("openai:soak", context_str="text", api_key="none", base_url=soak.base_url) as repl:
        assert repl.code_execution("print(len(context))").stdout.strip() == "4"
        repl.code_execution("llm_query('steady question')")


def new_engine(soak: Soak) -> None:
    with soak.new_engine(store=soak.random.choice([None, "memory"])) as engine:
        view = PlainView(io.StringIO())
        with view:
            result = engine.start(question("print('x' * 5000)\nFINAL('y')"), ["a", "b"], sinks=[view]).result(30)
        assert result.answer == "y", result.answer
        assert rlm.report_html(result).startswith("<!doctype html>")


def failing_cell(soak: Soak) -> None:
    """A cell that fails, ends its process, or exceeds its memory."""
    code = soak.random.choice(
        (
            "1 / 0",
            "import os\nos._exit(3)",
            "raise SystemExit('x')",
            "raise KeyboardInterrupt",
            "x = bytearray(1 << 30)",
            "print('y' * 5_000_000)",
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
            "def f(): f()\nf()",
            "import threading\nfor i in range(50): threading.Thread(target=lambda: None).start()",
            "FINAL(10 ** 5000)",
            "FINAL('\\ud800')",
        )
    )
    soak.engine.run(question(code), "a context")


def endless_cell(soak: Soak) -> None:
    with soak.new_engine(cell_seconds=0.5) as engine:
        engine.run(question("while True: pass"), "a context")


def killed_worker(soak: Soak) -> None:
    """A process of the sandbox is killed while a cell waits: a REPL's, or the zygote."""
    handle = soak.engine.start(question(batch("steady", 20)), "a context")
    time.sleep(soak.random.random() * 0.1)
    children = descendants(os.getpid(), soak.server_pid)
    if children:
        try:
            os.kill(soak.random.choice(children), signal.SIGKILL)
        except ProcessLookupError:
            soak.outcomes["killed_worker: too late"] += 1
    handle.result(60)


def resets(soak: Soak) -> None:
    soak.engine.run(question(batch("reset", 10)), "a context")


def hangs(soak: Soak) -> None:
    soak.engine.run(question(batch("hang", 6)), "a context")


def storm(soak: Soak) -> None:
    soak.engine.run(question(batch("storm", 30)), "a context")


def garbled(soak: Soak) -> None:
    soak.engine.run(question(batch("garbled", 10)), "a context")


def cancelled(soak: Soak) -> None:
    handle = soak.engine.start(question("import time\ntime.sleep(3)\nFINAL(1)"), "a context")
    time.sleep(soak.random.random() * 0.3)
    soak.random.choice((handle.cancel, handle.finish))()
    handle.result(20)


def timed_out(soak: Soak) -> None:
    with soak.new_engine(budget=rlm.Budget(seconds=1.0)) as engine:
        engine.run(question("import time\ntime.sleep(9)"), "a context")


def few_calls(soak: Soak) -> None:
    with soak.new_engine(budget=rlm.Budget(calls=8)) as engine:
        result = engine.run(question(batch("plain", 20)), "a context")
    assert result.status in ("complete", "partial"), result.status


def reader(soak: Soak) -> None:
    """Reads the store."""
    with rlm.open_store(soak.store) as store:
        for info in store.runs()[:3]:
            store.events(info.id)


KINDS: tuple[Callable[[Soak], None], ...] = (
    *(leaves, leaves, tree, documents, resume_after_limit, replay, older_class, plain_repl, new_engine),
    *(failing_cell, failing_cell, endless_cell, killed_worker, resets, hangs, storm, garbled, cancelled, timed_out),
    *(few_calls, reader, large_context),
)
