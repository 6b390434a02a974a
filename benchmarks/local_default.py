"""Accuracy of the embedded default model: `rlm ask` without a model, on questions with known answers.

    python benchmarks/local_default.py                             (the text in examples/data, 115 KB)
    python benchmarks/local_default.py --text moby-dick.txt        (the whole novel: the same questions, more distraction)
    python benchmarks/local_default.py --only 3 --show             (one question, with cell outputs)

Requires llama.cpp and SmolLM2 (README). "right": the first line of the answer is correct. "shown": only a quoted passage is.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import rlm

TEXT = Path(__file__).parents[1] / "examples" / "data" / "moby-dick.txt"

# Chosen before the first trial. The plan was then tuned on them, so expect less elsewhere. The pattern matches correct answers.
QUESTIONS = (
    ("Who delivered the sermon about Jonah?", r"Mapple"),
    ("Who is the landlord of the Spouter-Inn?", r"Coffin"),
    ("In which town is the Spouter-Inn?", r"New Bedford"),
    ("Where did Jonah want to flee to?", r"Tarshish|Cadiz|Spain"),
    ("From which port did the ship sail that Jonah took?", r"Joppa|Jaffa"),
    ("Which ship's crew came into the inn?", r"Grampus"),
    ("What is the arched entrance of the bar made of?", r"jaw|bone"),
    ("What was Queequeg selling in the streets?", r"head"),
    ("What is the name of the harpooneer who shares the bed?", r"Queequeg"),
    ("What did the landlord plane to make a bed?", r"bench"),
    ("How does Father Mapple climb up to the pulpit?", r"ladder"),
    ("Which ship did Samuel Gleig belong to?", r"Eliza"),
    ("On which island does the narrator want to go whaling from?", r"Nantucket"),
    ("What weapon does Queequeg smoke as a pipe?", r"tomahawk"),
    ("What is the panelled front of the pulpit like?", r"bow|ship"),
    ("Who was Father Mapple in his youth?", r"harpooneer|sailor"),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--text", type=Path, default=TEXT)
    arguments.add_argument("--model", default="plan:map_reduce")
    arguments.add_argument("--sub-model", default="local:smollm2")
    arguments.add_argument("--only", type=int, help="number of one question")
    arguments.add_argument("--show", action="store_true", help="also print the output of cells")
    chosen = arguments.parse_args()
    text = chosen.text.read_text(encoding="utf-8")
    engine = rlm.RLM(chosen.model, sub_model=chosen.sub_model)
    engine.run(QUESTIONS[0][0], "Father Mapple rose.")  # loads the weights before the first measurement
    print(f"{chosen.text.name}: {len(text):,} characters; {chosen.model} over {chosen.sub_model}\n")
    right = shown = 0
    numbered = list(enumerate(QUESTIONS, 1))
    for number, (question, truth) in numbered if chosen.only is None else numbered[chosen.only - 1 : chosen.only]:
        began = time.perf_counter()
        result = engine.run(question, text)
        took = time.perf_counter() - began
        answer = str(result.answer)
        verdict = (
            "right" if re.search(truth, answer.splitlines()[0]) else "shown" if re.search(truth, answer) else "WRONG"
        )
        right += verdict == "right"
        shown += verdict == "shown"
        total = result.usage.total.usage
        print(f"{number:2} {verdict} {took:4.0f} s {total.calls:3} calls {total.input_tokens:6,} tokens  {question}")
        print(f"         {answer.splitlines()[0][:150]}", flush=True)
        if chosen.show and result.tree is not None:
            for cell, ran in result.tree.cells:
                print(f"--- {cell.name}\n{ran.stdout}")
            print(answer)
    asked = 1 if chosen.only else len(QUESTIONS)
    print(f"\n{right} of {asked} right, {shown} more with the answer in a quoted passage")
    engine.close()


if __name__ == "__main__":
    main()
