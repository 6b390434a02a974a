"""Functions of this program as tools: a lookup that can be repeated, and an action that must not be. Requires OPENAI_API_KEY.

python examples/tools.py
"""

import rlm

STOCK = {"lamp": 3, "chair": 0, "table": 12}
ORDERED: list[tuple[str, int]] = []


@rlm.tool(idempotent=True)
def stock(article: str) -> int:
    """Returns how many pieces of an article are in stock."""
    return STOCK[article]


@rlm.tool(max_calls=5)
def order(article: str, pieces: int) -> str:
    """Orders pieces of an article from the supplier."""
    if article not in STOCK or not 0 < pieces <= 20:  # a model wrote these arguments
        raise ValueError("unknown article, or not between 1 and 20 pieces")
    ORDERED.append((article, pieces))
    return f"{pieces} of {article} are on their way"


def main() -> None:
    with rlm.RLM("gpt-4o", tools=[stock, order], budget=rlm.Budget(tool_calls=20)) as engine:
        result = engine.run(
            "Order what the note asks for and we do not have.", "We need four lamps, a chair and a table."
        )
    print(result.answer)
    print(f"{result.usage.tool_calls} tool calls, ordered: {ORDERED}")


if __name__ == "__main__":
    main()
