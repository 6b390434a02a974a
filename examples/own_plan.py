"""Custom plan: a fixed program in place of the root model.

It labels every line of a file, checks the labels, retries invalid ones, and answers with a table.

    python examples/own_plan.py                                    (a scripted leaf; requires no key)
    rlm ask "friendly, angry" FILE --model plan:examples/own_plan.py --sub-model gpt-4o-mini

`task.question` holds the labels. A plan yields the text that a model would write, and receives the observation that a model would
see. It runs from its start at every turn, so it must be deterministic and independent of time and files.
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

labelled = dict(zip(lines, ask(lines)))
""",
        "I label all lines in parallel.",
    )
    output = yield cell(
        """
invalid = [line for line, label in labelled.items() if label not in labels]
print(len(invalid), "lines without a valid label:", invalid[:5])
""",
        "I check that every reply is one of the labels.",
    )
    if not output.startswith("0 "):
        yield cell("labelled.update(zip(invalid, ask(invalid)))", "I ask again about the invalid ones.")
    yield cell("FINAL({label: [line for line in labelled if labelled[line] == label] for label in labels})")


def main() -> None:
    attempts: dict[str, int] = {}

    def leaf(request: rlm.Request) -> str:
        line = request.messages[-1].text.rpartition("\n")[2]
        attempts[line] = attempts.get(line, 0) + 1
        if "late" in line:
            return "angry"
        return "friendly" if attempts[line] > 1 else "It seems to be friendly."

    context = "The parcel is late again.\nThank you, all is well.\nYou are late, and I want my money back."
    result = rlm.ask("friendly, angry", context, model=f"plan:{Path(__file__)}", sub_model=ScriptedModel(leaf))
    print(result.answer)
    print(result.usage.total.usage.calls, "calls")


if __name__ == "__main__":
    main()
