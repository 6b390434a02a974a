"""Names of other RLM libraries, each with the name that this package has for it.

Errors about names of the official ``rlm`` package or of ``dspy.RLM`` say which name to use. Nothing is translated silently.
"""

from __future__ import annotations

from collections.abc import Mapping

FOREIGN_OPTIONS: Mapping[str, str] = {
    "backend": 'The provider is part of the model\'s name: RLM("anthropic:claude-sonnet-4-5").',
    "backend_kwargs": 'Give the model by name, RLM("openai:gpt-4o"), with `api_key` and `base_url` if needed.',
    "other_backends": "Give `sub_model`, or `models` with one model for each depth.",
    "other_backend_kwargs": "Give `sub_model`, or `models` with one model for each depth.",
    "lm": "Give the root's model as the first argument.",
    "sub_lm": "Its name here is `sub_model`.",
    "recursive_model": "Its name here is `sub_model`.",
    "environment": "Its name here is `sandbox`.",
    "environment_kwargs": "Give `sandbox`, `sandbox_packages`, `cell_seconds` and `memory_mb`.",
    "interpreter": "Its name here is `sandbox`.",
    "depth": "Its name here is `max_depth`.",
    "max_budget": "Give `budget=rlm.Budget(usd=...)`.",
    "max_timeout": "Give `budget=rlm.Budget(seconds=...)`.",
    "timeout": "Give `budget=rlm.Budget(seconds=...)` for a run, or `call_timeout_s` for one call.",
    "max_tokens": "Give `budget=rlm.Budget(tokens=...)` for a run, or `max_output_tokens` for one reply.",
    "max_llm_calls": "Give `budget=rlm.Budget(calls=...)`.",
    "max_concurrent_subcalls": "Its name here is `concurrency`; without it, the limit adapts.",
    "max_output_chars": "Its name here is `observation_chars`.",
    "custom_system_prompt": "Give `instructions` to add to the system message, or `prompt` to replace it.",
    "system_prompt": "Give `instructions` to add to the system message, or `prompt` to replace it.",
    "logger": "Give `sinks`, `on_event` of a run, or `verbose=True`; runs are recorded in `store`.",
    "signature": "Give the question to `run(query, context)`.",
    "custom_tools": "Its name here is `tools`.",
    "enable_logging": "Its name here is `verbose`.",
}
"""Options of other libraries, each with a sentence that names the option of ``rlm.RLM``."""

FOREIGN_METHODS: Mapping[str, str] = {
    "completion": "Call run(query, context): the question comes first, and `.answer` is the answer.",
    "acompletion": "Await arun(query, context): the question comes first, and `.answer` is the answer.",
    "forward": "Call run(query, context).",
    "aforward": "Await arun(query, context).",
    "query": "Call run(query, context).",
    "ask": "Call run(query, context), or rlm.ask(query, context, model).",
}
"""Methods of other libraries' engines, each with a sentence that names the method of ``rlm.RLM``."""

FOREIGN_RESULTS: Mapping[str, str] = {
    "response": "The answer is `.answer`.",
    "final_answer": "The answer is `.answer`.",
    "output": "The answer is `.answer`.",
    "text": "The answer is `.answer`; `str(result)` is its text.",
    "content": "The answer is `.answer`; `str(result)` is its text.",
    "cost": "The cost is `.cost_usd`.",
    "usage_summary": "Tokens and calls are in `.usage`, dollars in `.cost_usd`.",
    "execution_time": "The wall time is `.elapsed_s`.",
    "trajectory": "Nodes, turns, cells and calls are in `.tree`.",
    "metadata": "Nodes, turns, cells and calls are in `.tree`.",
}
"""Attributes of other libraries' results, each with a sentence that names the attribute of ``rlm.Result``."""


def missing_attribute(owner: str, name: str, known: Mapping[str, str]) -> AttributeError:
    """The error for an attribute that does not exist, with a hint if another library has it."""
    hint = f". {known[name]}" if name in known else ""
    return AttributeError(f"{owner!r} object has no attribute {name!r}{hint}", name=name)
