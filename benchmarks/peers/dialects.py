"""Code of the scripted model for each engine: the same work, with the functions of the engine's REPL.

Standard library only, because the drivers in the peers' environments import it.
"""

from __future__ import annotations

from dataclasses import dataclass

BATCH = 100  # leaf prompts of one batch
LOOP = 20  # sequential leaf prompts
TURNS = 10  # empty turns
CHILDREN, LEAVES = 8, 4  # of the nested tree

LEAF_LATENCY_S = 0.1
LEAF = "LEAF"


@dataclass(frozen=True)
class Dialect:
    """REPL functions of an engine: ``one`` sends one prompt, ``many`` a list, and ``final`` returns ``result``."""

    fence: str
    one: str
    many: str
    final: str
    context: str = "context"
    children: str = ""


_ANSWER = 'answer["content"] = str(result)\nanswer["ready"] = True'

DIALECTS = {
    "arbor": Dialect(
        "```repl\n{code}\n```",
        "llm_query(p)",
        "llm_query_batch(prompts)",
        "FINAL(str(result))",
        children="llm_query_batch(['CHILD'] * {n}, context=[f'part {{i}}' for i in range({n})])",
    ),
    "rlms": Dialect(
        "```repl\n{code}\n```",
        "llm_query(p)",
        "llm_query_batched(prompts)",
        _ANSWER,
        children="rlm_query_batched([f'CHILD part {{i}}' for i in range({n})])",
    ),
    "dspy": Dialect(
        "[[ ## reasoning ## ]]\nGo on.\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]",
        "llm_query(p)",
        "llm_query_batched(prompts)",
        "SUBMIT(str(result))",
        # Its sandbox creates sub-agents sequentially; it has no batch call for them.
        children="[dspy.RLM('context, query -> answer')(context=f'part {{i}}', query='CHILD').answer for i in range({n})]",
    ),
    "minrlm": Dialect(
        "```python\n{code}\n```",
        "sub_llm(p, '')",
        "sub_llm_batch([(p, '') for p in prompts])",
        # It accepts no answer before a call of its search function.
        "search(input_0[:1000], '0')\nFINAL(str(result))",
        context="input_0",
    ),
}


def done(turn: int) -> str:
    """Output of an executed cell. The code itself does not contain this text."""
    return f"TURN-{turn}-DONE"


def scenario_code(dialect: Dialect, scenario: str, turn: int) -> str:
    """Cell of a root's turn, counted from 0."""
    match scenario:
        case "batch":
            return f"prompts = [f'{LEAF} {{i}}' for i in range({BATCH})]\nresult = len({dialect.many})\n{dialect.final}"
        case "loop":
            loop = f"for i in range({LOOP}):\n    p = f'{LEAF} {{i}}'\n    found.append({dialect.one})"
            return f"found = []\n{loop}\nresult = len(found)\n{dialect.final}"
        case "nested":
            prepare = "import dspy\n" if "dspy." in dialect.children else ""
            return f"{prepare}found = {dialect.children.format(n=CHILDREN)}\nresult = len(found)\n{dialect.final}"
        case "turns" if turn < TURNS:
            return f"size = len({dialect.context})\nprint('TURN-' + str({turn}) + '-DONE')"
        case "many" if turn == 0:
            return f"p = '{LEAF} 1'\nprint({dialect.one})\nprint('TURN-' + str(0) + '-DONE')"
        case _:
            return f"result = 1\n{dialect.final}"


def child_code(dialect: Dialect) -> str:
    """Cell of a child node: four leaf calls in a batch."""
    return f"prompts = [f'{LEAF} {{i}}' for i in range({LEAVES})]\nresult = len({dialect.many})\n{dialect.final}"


EXPECTED = {"batch": BATCH, "loop": LOOP, "nested": CHILDREN, "turns": 1, "many": 1, "cold": 1}
