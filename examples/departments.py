"""Nested RLMs: departments in parallel, teams as plain calls of each. Requires OPENAI_API_KEY.

python examples/departments.py
"""

from rlm.rlm_repl import RLM_REPL

CONTEXT = """
Department: Engineering
  Team: Backend (5 people)
  Team: Frontend (3 people)
Department: Sales
  Team: Enterprise (4 people)
"""


def main() -> None:
    rlm = RLM_REPL(model="gpt-4o-mini", max_depth=2, enable_logging=True)
    print(rlm.completion(CONTEXT, "Count total employees by department"))
    summary = rlm.cost_summary()
    print(f"{summary['calls']} calls, {summary['total_tokens']} tokens, {summary['cost_usd']} dollars")


if __name__ == "__main__":
    main()
