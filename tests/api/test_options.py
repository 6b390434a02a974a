"""Options are declared once: RLM, the command line, the record of a run and its resumption agree with the declaration."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from cyclopts import App

import rlm
from rlm.cli.ask import ask
from rlm.cli.flags import declared_flags, raising_flag, read_flags, with_flags
from rlm.cli.records import open_recorded
from rlm.cli.resume import resume
from rlm.core.budget import Budget
from rlm.options import DECLARED, DEFAULTS, TYPES, Options, OptionsDict, restore_options
from rlm.runtime.authority import RESUME_FLAGS
from rlm.runtime.journaling import RunStore
from rlm.testing.scripted import ScriptedModel
from rlm.tools.mcp.server import mcp_servers

SERVERS = ["server --flag", "http://127.0.0.1:9/mcp"]

# Of every option: its flag with a value, and that value in Python. An option without a flag has None.
SAMPLES: dict[str, tuple[list[str] | None, Any]] = {
    "model": (["--model", "openai:m"], "openai:m"),
    "sub_model": (["--sub-model", "openai:s"], "openai:s"),
    "models": (None, ["openai:m", "openai:s"]),
    "max_depth": (["--depth", "2"], 2),
    "max_iterations": (["--max-iterations", "7"], 7),
    "budget": (
        [
            "--budget",
            "0.5",
            "--max-calls",
            "3",
            "--max-tokens-total",
            "9000",
            "--max-tool-calls",
            "6",
            "--timeout",
            "8.5",
        ],
        Budget(usd=0.5, calls=3, tokens=9000, seconds=8.5, tool_calls=6),
    ),
    "sandbox": (["--sandbox", "unconfined"], "unconfined"),
    "sandbox_packages": (["--sandbox-package", "yarl", "--sandbox-package", "idna"], ("yarl", "idna")),
    "concurrency": (["--concurrency", "5"], 5),
    "requests_per_minute": (["--requests-per-minute", "90.5"], 90.5),
    "tokens_per_minute": (["--tokens-per-minute", "80000"], 80000),
    "retries": (["--retries", "0"], 0),
    "retry_seconds": (["--retry-seconds", "90"], 90.0),
    "call_timeout_s": (["--call-timeout", "9.5"], 9.5),
    "hedge": (["--no-hedge"], False),
    "cell_seconds": (["--cell-seconds", "4"], 4.0),
    "memory_mb": (["--memory-mb", "300"], 300),
    "tools": (["--mcp", "server --flag", "--mcp", "http://127.0.0.1:9/mcp"], mcp_servers(SERVERS)),
    "observation_chars": (["--observation-chars", "900"], 900),
    "cut_replies": (["--cut-replies", "never"], "never"),
    "warm_prefixes": (["--warm-prefixes", "always"], "always"),
    "temperature": (["--temperature", "0.5"], 0.5),
    "max_output_tokens": (["--max-output-tokens", "700"], 700),
    "prompt": (["--prompt", "small"], "small"),
    "instructions": (["--instructions", "Answer in French."], "Answer in French."),
    "citations": (["--cite"], True),
    "coverage": (None, True),
    "prefetch": (["--no-prefetch"], False),
    "setup_code": (["--setup-code", "x = 1"], "x = 1"),
    "prices": (["--price", "m=1,2", "--price", "openai:s=1,2,3"], {"m": (1.0, 2.0), "openai:s": (1.0, 2.0, 3.0)}),
    "sinks": (None, [print]),
    "verbose": (None, True),
    "api_key": (None, "secret"),
    "base_url": (["--base-url", "http://127.0.0.1:9/v1"], "http://127.0.0.1:9/v1"),
    "window_tokens": (["--window-tokens", "50000"], 50000),
    "store": (["--store", "none"], None),
    "store_texts": (["--no-store-texts"], False),
    "cache": (["--cache"], True),
}


def parse(tokens: list[str], *, recorded: Collection[str] | None = None) -> dict[str, Any]:
    app = App(result_action="return_value")

    @app.default
    @with_flags(recorded=recorded)
    def command(**given: Any) -> dict[str, Any]:
        return read_flags(given)

    options: dict[str, Any] = app(tokens, exit_on_error=False, print_error=False)
    return options


def test_every_option_has_a_sample() -> None:
    assert SAMPLES.keys() == DECLARED.keys()
    assert all(SAMPLES[name][1] != DEFAULTS[name] for name in SAMPLES)


def test_typed_keywords_match_the_declaration() -> None:
    assert get_type_hints(OptionsDict) == {name: kind for name, kind in TYPES.items() if name != "model"}


@pytest.mark.parametrize("name", DECLARED)
def test_option_has_flags_or_a_reason(name: str) -> None:
    declared = DECLARED[name]
    assert bool(declared.flags) != bool(declared.python_only)
    assert (SAMPLES[name][0] is None) == bool(declared.python_only)
    assert declared.summary.endswith(".")
    assert declared.group


@pytest.mark.parametrize("name", [name for name in DECLARED if DECLARED[name].flags])
def test_flag_sets_its_option(name: str) -> None:
    tokens, value = SAMPLES[name]
    assert tokens is not None
    given = parse(tokens)
    assert given == {name: value}
    assert getattr(Options(**given), name) == value


def test_flags_of_a_pair_exclude_each_other() -> None:
    assert parse(["--no-cite"]) == {"citations": False}
    assert parse(["--cite"]) == {"citations": True}


def test_commands_have_the_declared_flags() -> None:
    flags = {flag.identifier for _, _, flag in declared_flags()}
    changes = {
        flag.identifier for name, declared, flag in declared_flags() if declared.changeable or name in RESUME_FLAGS
    }
    assert flags <= set(inspect.signature(ask).parameters)
    assert changes <= set(inspect.signature(resume).parameters)
    assert set(inspect.signature(resume).parameters) & flags == changes | {"store"}


def test_flags_that_are_not_given_leave_defaults() -> None:
    assert parse([]) == parse([], recorded=DECLARED) == {}


@pytest.mark.parametrize("name", DECLARED)
def test_option_is_recorded_and_restored(name: str) -> None:
    value = SAMPLES[name][1]
    model = ScriptedModel([])
    record = json.loads(json.dumps(Options(**{name: value}).recorded([model])))
    restored = restore_options(record)
    if name == "models":
        assert restored[name] == [model.name]
    elif DECLARED[name].unrecorded:
        assert name not in record
    else:
        assert restored[name] == value


def test_resumed_run_has_the_options_of_its_record(tmp_path: Path) -> None:
    place = str(tmp_path / "runs.db")
    recorded = {
        name: value
        for name, (_, value) in SAMPLES.items()
        if not DECLARED[name].unrecorded and name not in ("models", "sandbox", "sandbox_packages", "cut_replies")
    }
    models = ["openai:m", "openai:s"]
    with rlm.RLM(models=models, api_key="x", store=place, **recorded) as engine, pytest.raises(rlm.RLMError):
        engine.run("q", "c")
    info = RunStore(place).need_store().find("last")
    consent = {name: recorded[name] for name in ("setup_code", "base_url")}
    with open_recorded(info, place, {**consent, "prices": {"d": (5.0, 6.0)}, "concurrency": 9}) as resumed:
        options = resumed.options
    expected = recorded | {"models": models, "concurrency": 9, "prices": {**recorded["prices"], "d": (5.0, 6.0)}}
    assert {name: getattr(options, name) for name in expected} == expected


def test_a_record_without_newer_options_restores_defaults() -> None:
    assert restore_options({"models": ["openai:m"], "windows": [1], "unknown": 1}) == {"models": ["openai:m"]}


def test_signature_and_docstring_list_every_option_once() -> None:
    assert list(inspect.signature(rlm.RLM).parameters) == list(DECLARED)
    for name in DECLARED:
        assert len(re.findall(rf"^ +{name}: ", rlm.RLM.__doc__ or "", re.MULTILINE)) == 1


def test_every_limit_names_the_flag_that_raises_it() -> None:
    assert raising_flag("usd") == " --budget DOLLARS"
    assert raising_flag("iterations") == " --max-iterations TURNS"
    assert raising_flag("stopped") == raising_flag("") == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_depth": -1}, "`max_depth` must be an integer, 0 or more; got -1."),
        ({"max_depth": None}, "`max_depth` must be"),
        ({"max_iterations": "5"}, "`max_iterations` must be an integer, 1 or more; got '5'."),
        ({"call_timeout_s": 0}, "`call_timeout_s` must be a number, more than 0; got 0."),
        ({"tokens_per_minute": float("nan")}, "`tokens_per_minute` must be"),
        ({"warm_prefixes": "maybe"}, "`warm_prefixes` must be one of auto, always, never; got 'maybe'."),
        ({"prompt": "huge"}, "`prompt` must be one of default, small; got 'huge'."),
        ({"sandbox_packages": "numpy"}, "`sandbox_packages` must be a list"),
        ({"budget": 5}, "`budget` must be a Budget; got 5."),
    ],
)
def test_unusable_option_is_named_with_its_rule(options: dict[str, Any], message: str) -> None:
    with pytest.raises(rlm.ConfigurationError, match=re.escape(message)):
        rlm.RLM(ScriptedModel([]), **options)


def test_unknown_option_names_the_nearest_one() -> None:
    with pytest.raises(TypeError, match="no option `max_dept`"):
        rlm.RLM("gpt-4o", api_key="x", max_dept=2)  # type: ignore[call-arg]


def test_prices_on_the_command_line_are_checked() -> None:
    for price in ("gpt-4o", "gpt-4o=cheap", "=1,2"):
        with pytest.raises(rlm.ConfigurationError, match="`--price` must be MODEL=IN,OUT"):
            parse(["--price", price])
