"""A plan of your own: a fixed program that plays the root, where no model is needed to decide what to do next.

This one labels every line of a file, checks the labels, asks again about those that were none, and answers with a table.

    python examples/own_plan.py                                    (a scripted leaf; needs no key)
    rlm ask "friendly, angry" FILE --model plan:examples/own_plan.py --sub-model gpt-4o-mini

`task.question` holds the labels. What a plan yields is what a model would write, and what it is sent is what a model would
be shown. It is run from its start at every turn, so it must not depend on chance, time or files.
"""

from collections.abc import Generator
from pathlib import Path

import rlm
from rlm.plans import Task, cell
from rlm.testing import ScriptedModel


def plan(task: Task) -> Generator[str, str, None]:
    labels = [label.strip() for label in task.question.split(",")]
    yield cell(
        f"""
labels = {labels!r}
lines = [line for line in context.splitlines() if line.strip()]

def ask(lines):
    choice = f"Which label fits best: {{', '.join(labels)}}? Reply with the label alone."
    return llm_query_batch([f"{{choice}}\\n\\n{{line}}" for line in lines])

found = dict(zip(lines, ask(lines)))
""",
        "I ask about every line, all in parallel.",
    )
    shown = yield cell(
        """
odd = [line for line, label in found.items() if label not in labels]
print(len(odd), "lines without a label:", odd[:5])
""",
        "I check that every reply is a label.",
    )
    if not shown.startswith("0 "):
        yield cell("found.update(zip(odd, ask(odd)))", "I ask once more about those that have none.")
    yield cell("FINAL({label: [line for line in found if found[line] == label] for label in labels})")


def main() -> None:
    tries: dict[str, int] = {}

    def leaf(request: rlm.Request) -> str:
        line = request.messages[-1].content.rpartition("\n")[2]
        tries[line] = tries.get(line, 0) + 1
        if "late" in line:
            return "angry"
        return "friendly" if tries[line] > 1 else "It seems to be friendly."

    context = "The parcel is late again.\nThank you, all is well.\nYou are late, and I want my money back."
    result = rlm.ask("friendly, angry", context, model=f"plan:{Path(__file__)}", sub_model=ScriptedModel(leaf))
    print(result.answer)
    print(result.usage.total.usage.calls, "calls")


if __name__ == "__main__":
    main()
