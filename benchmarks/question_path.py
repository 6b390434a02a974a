"""Length of one question's path through the package: host files visited, and moves from file to file.

    python -m benchmarks.question_path [--files]
    PYTHONPATH=OTHER_CHECKOUT python benchmarks/question_path.py      the same for another checkout

The run has one cell with one leaf call and an answer. Models are scripted and the process is warm: an equal run came before,
so imports and the start of the sandbox do not count. A *move* is a call, return or resumption that leads from one file of the
package to another, in one thread. Files of the standard library and of other packages are looked through.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import rlm
from rlm.testing.scripted import ScriptedModel

PACKAGE = str(Path(rlm.__file__).parent)
CELL = "```repl\nanswer = llm_query('Name the captain: ' + context)\nFINAL(answer)\n```"


class PathCounter:
    """Counts files and moves by the interpreter's profile hook. Every thread has a path of its own."""

    def __init__(self) -> None:
        self.entries: Counter[str] = Counter()
        self.moves: Counter[tuple[str, str]] = Counter()
        self.enabled = False
        self._at = threading.local()

    def hook(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            self._arrive(frame.f_code.co_filename, entered=True)
        elif event == "return" and frame.f_back is not None:
            self._arrive(frame.f_back.f_code.co_filename, entered=False)

    def _arrive(self, file: str, *, entered: bool) -> None:
        if not file.startswith(PACKAGE) or "/testing/" in file:
            return
        before, self._at.file = getattr(self._at, "file", file), file
        if self.enabled:
            self.entries[file] += entered
            if before != file:
                self.moves[before, file] += 1


def ask(engine: Any) -> str:
    answer: str = engine.run("Who is the captain?", "Ahab commands the Pequod.").answer
    return answer


def main() -> None:
    """Runs the question twice and prints the counts of the second run."""
    counter = PathCounter()
    threading.setprofile(counter.hook)  # before the engine starts its threads
    sys.setprofile(counter.hook)
    root = ScriptedModel(lambda _request: CELL)
    leaf = ScriptedModel(lambda _request: "Ahab", name="scripted:leaf")
    with rlm.RLM(root, sub_model=leaf, store=None) as engine:
        assert ask(engine) == "Ahab"
        counter.enabled = True
        assert ask(engine) == "Ahab"
        counter.enabled = False
    sys.setprofile(None)
    if "--files" in sys.argv:
        for file, count in counter.entries.most_common():
            print(f"{count:6,}  {Path(file).relative_to(PACKAGE)}")
    print(f"{len(counter.entries)} files, {sum(counter.moves.values())} moves")


if __name__ == "__main__":
    main()
