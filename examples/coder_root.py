"""Local model as the root: Qwen2.5-Coder-1.5B-Instruct, from a GGUF file of yours.

    python examples/coder_root.py MODEL.gguf                       # Tasks over the text in examples/data.
    RLM_CODER_GGUF=MODEL.gguf python examples/coder_root.py --question "How many chapters are there?" --text FILE

A model of this size writes short cells well and fails at long ones. It gets the prompt family "small" (two worked examples). A
grammar restricts each turn to one code block (`rlm.models.local.FENCE_GRAMMAR`, the default for small files). Sub-calls go to the
same model or to --sub-model. Expected answers are computed from the text.
"""

import argparse
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import rlm

TEXT = Path(__file__).parent / "data" / "moby-dick.txt"


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", text)


def _most_frequent(text: str) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for word in words(text):
        if len(word) > 6:
            counts[word.lower()] = counts.get(word.lower(), 0) + 1
    return tuple(word for word, n in counts.items() if n >= max(counts.values()) - 1)


# Questions with expected answers, computed from the text so that --text works.
TASKS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("How many lines contain the word Queequeg?", lambda t: sum("Queequeg" in line for line in t.splitlines())),
    ("How many lines contain the word Nantucket?", lambda t: sum("Nantucket" in line for line in t.splitlines())),
    ("How many lines are there in the text?", lambda t: (len(t.splitlines()), len(t.split("\n")))),
    ("How many characters does the text have?", len),
    ("How many lines start with the word CHAPTER?", lambda t: len(re.findall(r"(?m)^CHAPTER", t))),
    ("What is the title of chapter 9?", lambda _: "The Sermon"),
    ("What is the title of chapter 4?", lambda _: "The Counterpane"),
    ("Which ship's crew came into the inn?", lambda _: "Grampus"),
    ("What is the first sentence of the text after the chapter title?", lambda _: "Call me Ishmael"),
    (
        "How many times does the word whale occur, upper or lower case?",
        lambda t: (
            len(re.findall(r"(?i)\bwhale\b", t)),
            t.lower().count("whale"),
            sum(w == "whale" for w in t.lower().split()),
        ),
    ),
    ("What is the longest line of the text?", lambda t: max(t.splitlines(), key=len).strip()),
    ("How many times does Father Mapple's name, Mapple, occur?", lambda t: t.count("Mapple")),
    ("Who is the landlord of the Spouter-Inn? His name stands on the sign.", lambda _: "Coffin"),
    (
        "Print the line that contains the word Grampus.",
        lambda t: next(line for line in t.splitlines() if "Grampus" in line).strip(),
    ),
    ("How many question marks are in the text?", lambda t: t.count("?")),
    ("Does the word Ahab occur in the text? Answer yes or no.", lambda t: "yes" if "Ahab" in t else "no"),
    ("To which ship did Samuel Gleig belong? Search for the name GLEIG.", lambda _: re.compile("ELIZA", re.I)),
    ("What is the most frequent word with more than six letters?", _most_frequent),
    (
        "Who is Bulkington? Find the paragraph that mentions him, and ask llm_query about it.",
        lambda _: re.compile("mariner|sailor|shipmate|seaman|crew|southern|virginia", re.I),
    ),
    ("What is the last word of the text?", lambda t: words(t)[-1]),
    (
        "How many lines contain both of the words Jonah and ship?",
        lambda t: (
            sum("Jonah" in line and "ship" in line for line in t.splitlines()),
            sum("jonah" in line and "ship" in line for line in t.lower().splitlines()),
        ),
    ),
)


def is_right(answer: object, truth: object) -> bool:
    """True if the answer contains the expected value, or one of several for an ambiguous question."""
    if isinstance(truth, tuple):
        return any(is_right(answer, value) for value in truth)
    if isinstance(truth, int):
        return re.search(rf"(?<!\d){truth}(?!\d)", str(answer).replace(",", "")) is not None
    pattern = truth if isinstance(truth, re.Pattern) else re.compile(re.escape(str(truth)), re.IGNORECASE)
    return pattern.search(str(answer)) is not None


def ask(engine: rlm.RLM, question: str, text: str) -> tuple[object, int, str]:
    """Answer, number of turns, and the code of all cells."""
    try:
        result = engine.run(question, text)
    except rlm.RLMError as error:
        tree = error.result.tree if error.result else None
        cells = [cell.code for cell, _ in tree.cells] if tree else []
        return f"{type(error).__name__}: {str(error)[:120]}", len(cells), "\n".join(cells)
    assert result.tree is not None
    return result.answer, len(result.tree.turns), "\n---\n".join(cell.code for cell, _ in result.tree.cells)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("gguf", nargs="?", default=os.environ.get("RLM_CODER_GGUF"))
    arguments.add_argument("--sub-model", help="[default: the same model]")
    arguments.add_argument("--text", type=Path, default=TEXT)
    arguments.add_argument("--question", help="ask one question instead of the tasks")
    arguments.add_argument("--show", action="store_true", help="print the code of all cells")
    chosen = arguments.parse_args()
    if not chosen.gguf:
        arguments.error("a GGUF file is required: pass it, or set RLM_CODER_GGUF")
    text = chosen.text.read_text(encoding="utf-8")
    engine = rlm.RLM(
        f"local:{chosen.gguf}", sub_model=chosen.sub_model, prompt="small", max_iterations=5, observation_chars=2_000
    )
    if chosen.question:
        answer, turns, code = ask(engine, chosen.question, text)
        print(code, f"\n\n{answer}\n({turns} turns)")
        return
    right = 0
    for number, (question, truth) in enumerate(TASKS, 1):
        began = time.perf_counter()
        answer, turns, code = ask(engine, question, text)
        correct = is_right(answer, truth(text))
        right += correct
        took = time.perf_counter() - began
        print(f"{number:2} {'right' if correct else 'WRONG'} {took:4.0f} s {turns} turns  {question}")
        print(f"         {str(answer)[:150]!r}", flush=True)
        if chosen.show:
            print(code, flush=True)
    print(f"\n{right} of {len(TASKS)} right")
    engine.close()


if __name__ == "__main__":
    main()
