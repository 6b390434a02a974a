"""The options of a run, each declared once: default, unit, range, help, flag, and place in the record.

``RLM(**options)``, the command line, the record of a run and what ``rlm resume`` restores are read off ``Options``. A new option
needs one field here and one line in ``OptionsDict``; tests compare the two.

The annotations are evaluated on purpose: the command line reads its types from them. The file is long because it is a table.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from operator import not_
from pathlib import Path
from typing import Any, TypedDict, get_args

from rlm.argument_types import check_type
from rlm.core.budget import Budget
from rlm.core.endings import CutRule
from rlm.core.errors import ConfigurationError
from rlm.core.foreign_names import FOREIGN_OPTIONS
from rlm.core.messages import JsonValue
from rlm.core.option import Bounds, Flag, check_choice, declarations, option, show_given
from rlm.core.redaction import REDACTED, SECRETS, redact_address, secrets_of_address, secrets_of_environment
from rlm.core.values import frozen
from rlm.engine.calling.prefix_warmup import WarmRule
from rlm.ports import Model, SinkLike, Tool, ToolSource
from rlm.prompts import FAMILIES, PromptFamily, choose_family, with_instructions
from rlm.store.location import DEFAULT_STORE

POSITIVE = Bounds(above=0)
AT_LEAST_1 = Bounds(least=1, whole=True)
NOT_NEGATIVE = Bounds(least=0, whole=True)

MODELS, LIMITS, CALLS, CELLS, PROMPTS, RECORD = "Models", "Limits", "Calls", "Cells", "Prompts", "Record"
"""Headings of flags."""

SHARED_BUDGET = "shared"
"""The key of a shared budget among the recorded limits of a run."""

CUSTOM_PROMPT = "custom"
"""The recorded prompt of a run whose prompt was a function."""


def parse_prices(entries: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Prices from texts of the form ``MODEL=IN,OUT``, with up to four figures."""
    prices: dict[str, tuple[float, ...]] = {}
    for entry in entries:
        model, _, figures = entry.rpartition("=")
        try:
            prices[model] = tuple(float(figure) for figure in figures.split(","))
        except ValueError:
            model = ""
        if not model:
            raise ConfigurationError(f"`--price` must be MODEL=IN,OUT in dollars for a million tokens; got {entry!r}.")
    return prices


def parse_store(name: str | None) -> str | None:
    """The store of a text in which "none" stands for no store."""
    return DEFAULT_STORE if name is None else None if name == "none" else name


def _limit(part: str, name: str, metavar: str, summary: str, bounds: Bounds = POSITIVE) -> Flag:
    """The flag of one limit of the budget."""
    return Flag(name, summary, int | None if bounds.whole else float | None, part=part, bounds=bounds, metavar=metavar)


def _encode_budget(budget: Budget | None) -> dict[str, JsonValue]:
    """The limits of a budget. A shared one is recorded by its title: a record grants no file."""
    limits: dict[str, JsonValue] = dict((budget or Budget()).limits)
    return limits if budget is None or budget.pool is None else {**limits, SHARED_BUDGET: budget.pool.title}


def _decode_budget(limits: Mapping[str, Any]) -> Budget:
    return Budget(**{name: limit for name, limit in limits.items() if name != SHARED_BUDGET})


def open_servers(servers: Sequence[str]) -> list[ToolSource]:
    """The MCP servers of ``--mcp`` flags. Their module is imported by those who use it."""
    module: Any = import_module("rlm.tools.mcp.server")
    opened: list[ToolSource] = module.mcp_servers(servers)
    return opened


@frozen(kw_only=True)
class Options:
    """The options of ``rlm.RLM``, checked.

    Raises:
        ConfigurationError: an option cannot be used.
    """

    model: str | Model | None = option(
        None,
        "The root's model: provider:model, or a bare OpenAI name.\n"
        "Also ``local:...``, ``plan:...``, or any object that fits ``rlm.Model``. None uses ``default_models()``.",
        MODELS,
        flag=Flag(short="-m", type=str | None),
        unrecorded="recorded under `models`, by the name that was opened",
    )
    sub_model: str | Model | None = option(
        None,
        "The model of all deeper levels; the root's if not given.",
        MODELS,
        flag=Flag(type=str | None),
        unrecorded="recorded under `models`",
    )
    models: Sequence[str | Model] | None = option(
        None,
        "One model for each depth, the last for all deeper levels; instead of ``model`` and ``sub_model``.",
        MODELS,
        python_only="--model and --sub-model cover the command line",
    )
    max_depth: int = option(
        1,
        "Levels of model calls below the root: 1 plain sub-calls, 2 and more nested RLMs, 0 none.",
        LIMITS,
        unit="levels",
        bounds=NOT_NEGATIVE,
        flag=Flag("--depth"),
    )
    max_iterations: int = option(
        20,
        "Turns of each node. After the last one, the node is asked for its answer.",
        LIMITS,
        unit="turns",
        bounds=AT_LEAST_1,
        changeable=True,
    )
    budget: Budget | None = option(
        None,
        "Limits of the whole run, see ``rlm.Budget``. Its ``iterations`` override ``max_iterations``.",
        LIMITS,
        flag=(
            _limit(
                "usd",
                "--budget",
                "DOLLARS",
                "Dollars for the whole run. At any limit, the root answers with what it has.",
            ),
            _limit("calls", "--max-calls", "CALLS", "Model calls of the whole run.", AT_LEAST_1),
            _limit(
                "tokens", "--max-tokens-total", "TOKENS", "Tokens of the whole run, prompts and replies.", AT_LEAST_1
            ),
            _limit("tool_calls", "--max-tool-calls", "CALLS", "Executions of tools in the whole run.", NOT_NEGATIVE),
            _limit("seconds", "--timeout", "SECONDS", "Seconds for the whole run; for a resumed run, from now on."),
        ),
        encode=_encode_budget,
        decode=_decode_budget,
        changeable=True,
    )
    sandbox: str = option(
        "auto",
        "Isolation level of model-written code; auto is the strongest that works on this machine.",
        CELLS,
        flag=Flag(metavar="LEVEL"),
    )
    sandbox_packages: Sequence[str] = option(
        (),
        'Packages that cells can import besides the standard library, for instance ``("numpy", "pandas")``.\n'
        "They must be installed on this machine, and are imported before the sandbox is closed.",
        CELLS,
        flag=Flag(
            "--sandbox-package",
            "A package that cells can import besides the standard library; can be repeated.",
            list[str] | None,
            tuple,
            metavar="PACKAGE",
        ),
        encode=list,
        decode=tuple,
    )
    concurrency: int | None = option(
        None,
        "The most calls to one model in flight at once, over all runs of the process that set the same limit.\n"
        "Without it, the limit adapts: it grows until the provider refuses calls, and settles below that point.",
        CALLS,
        unit="calls",
        bounds=AT_LEAST_1,
        changeable=True,
    )
    requests_per_minute: float | None = option(
        None,
        "The provider's limit on requests to one model; the calls of all runs are spaced out to respect it.",
        CALLS,
        unit="requests a minute",
        bounds=POSITIVE,
        changeable=True,
    )
    tokens_per_minute: float | None = option(
        None,
        "The provider's limit on tokens of one model, respected in the same way.",
        CALLS,
        unit="tokens a minute",
        bounds=POSITIVE,
        changeable=True,
    )
    retries: int = option(
        5,
        "Further attempts at a call after a transient failure other than a refusal (429, 503). With 0, nothing is retried.",
        CALLS,
        unit="attempts",
        bounds=NOT_NEGATIVE,
        changeable=True,
    )
    retry_seconds: float = option(
        300.0,
        "Seconds for which a call is retried while the provider refuses load (429, 503).\n"
        "The calls of all runs to that model pause meanwhile, and one at a time probes whether it accepts calls again.",
        CALLS,
        unit="seconds",
        bounds=Bounds(least=0),
        changeable=True,
    )
    call_timeout_s: float = option(
        600.0,
        "The most seconds for one attempt at one call. With known latencies of similar calls, the deadline is ten times those.",
        CALLS,
        unit="seconds",
        bounds=POSITIVE,
        flag=Flag("--call-timeout"),
        changeable=True,
    )
    hedge: bool = option(
        True,
        "Ask a second time if one call of a batch takes far longer than its siblings. The first answer wins.\n"
        "At most 2 % more calls, one a batch at least. The slower request is cancelled, and the budget counts its worst case.",
        CALLS,
        flag=Flag(
            "--no-hedge", "Never ask a second time for a call that takes far longer than its siblings.", read=not_
        ),
        changeable=True,
    )
    cell_seconds: float = option(
        120.0, "Wall time of one cell; waits for sub-calls do not count.", CELLS, unit="seconds", bounds=POSITIVE
    )
    memory_mb: int = option(2048, "Memory of one REPL.", CELLS, unit="MiB", bounds=AT_LEAST_1)
    tools: Sequence[Callable[..., Any] | Tool | ToolSource] | ToolSource = option(
        (),
        "Functions of this program that cells can call: functions, ``rlm.tool(...)``, ``rlm.mcp_tools(...)``.\n"
        "They run outside the sandbox, with the rights of this process, and a model writes their arguments. The root has them; "
        "deeper nodes have those that are granted to them.",
        CELLS,
        flag=Flag(
            "--mcp",
            "Give cells the tools of an MCP server: a command line, or an address; can be repeated.",
            list[str] | None,
            open_servers,
            metavar="COMMAND|URL",
        ),
        changeable=True,
        unrecorded="functions of one process; the first event of the run describes them",
    )
    observation_chars: int = option(
        16_000,
        "Characters of output that a model is shown after each turn.",
        PROMPTS,
        unit="characters",
        bounds=AT_LEAST_1,
    )
    cut_replies: CutRule = option(
        "invented",
        "The end of a turn whose reply continues after its cells.\n"
        '``"invented"``: before output that the model cannot have seen; several cells in a row are executed. '
        '``"first_cell"``: after the first cell. ``"never"``: replies are taken whole. The first two stream the '
        "replies of nodes if the provider can, and start cells as soon as the end is known.",
        PROMPTS,
        choices=get_args(CutRule),
    )
    warm_prefixes: WarmRule = option(
        "auto",
        "Send one call of a batch with a long shared prefix first, to fill the provider's prefix cache.\n"
        'The others follow when that call begins to answer. ``"auto"``: if the model is known to cache prefixes, or has reported '
        "cached tokens in this run.",
        CALLS,
        choices=get_args(WarmRule),
    )
    temperature: float | None = option(
        None,
        "Sampling temperature of every call; the provider's default if not given.",
        PROMPTS,
        bounds=Bounds(least=0),
    )
    max_output_tokens: int | None = option(
        None,
        "Tokens of one reply at most; the provider's default if not given.",
        PROMPTS,
        unit="tokens",
        bounds=AT_LEAST_1,
    )
    prompt: str | PromptFamily | None = option(
        None,
        f"The prompt family: {', '.join(sorted(FAMILIES))}; chosen by the root's model if not given.\n"
        "Or a function from ``PromptFacts`` to the system message.",
        PROMPTS,
        flag=Flag(type=str | None, metavar="FAMILY"),
        encode=lambda prompt: prompt if isinstance(prompt, str | None) else CUSTOM_PROMPT,
    )
    instructions: str | None = option(
        None, "Text that is added to the system message of every node.", PROMPTS, flag=Flag(metavar="TEXT")
    )
    citations: bool | None = option(
        None,
        "Ask for quotes of the input as evidence; they are looked up there, and become ``result.citations``.\n"
        "None asks if the input is documents.",
        PROMPTS,
        flag=(
            Flag("--cite", "Ask for quotes as evidence; the default for documents.", bool, lambda on: on or None),
            Flag("--no-cite", "Do not ask for quotes.", bool, lambda off: None if not off else False),
        ),
    )
    coverage: bool | None = option(
        None,
        "Measure which parts of the input models were shown: ``result.coverage``. None measures it for documents.",
        RECORD,
        python_only="the command line measures it for documents",
    )
    prefetch: bool = option(
        True,
        "Send calls of sequential code ahead of time.\n"
        "A loop over ``llm_query`` then takes as long as a batch, as far as no answer decides what is asked next. Needs the "
        'sandbox level "strict".',
        CELLS,
        flag=Flag("--no-prefetch", "Do not send calls of sequential code ahead of time.", read=not_),
    )
    setup_code: str | None = option(
        None, "Python code that runs in every REPL before its first cell.", CELLS, flag=Flag(metavar="CODE")
    )
    prices: Mapping[str, tuple[float, ...]] | None = option(
        None,
        "``{model: (input, output)}`` in dollars for a million tokens, in place of published prices.\n"
        "A third and fourth figure are cached input and cache writes, if they differ.",
        LIMITS,
        flag=Flag(
            "--price",
            "Dollars for a million tokens, in place of a published price; can be repeated.",
            list[str] | None,
            parse_prices,
            metavar="MODEL=IN,OUT",
        ),
        encode=lambda prices: None if prices is None else {model: list(figures) for model, figures in prices.items()},
        decode=lambda prices: None if prices is None else {model: tuple(figures) for model, figures in prices.items()},
        changeable=True,
    )
    sinks: Sequence[SinkLike] = option(
        (),
        "Receivers of every event of every run, on the engine's thread; they must not block.",
        RECORD,
        python_only="an object; the command line has its own views",
        unrecorded="objects of one process",
    )
    verbose: bool = option(
        False,
        "Write lines about every run to standard error while it works.",
        RECORD,
        python_only="`rlm ask` has its own view",
        unrecorded="a view of one process",
    )
    api_key: str | None = option(
        None,
        "The key for the root's provider and all models of that provider; from the environment if None.",
        MODELS,
        python_only="other users of the machine can read command lines; set OPENAI_API_KEY or its like",
        unrecorded="a secret",
    )
    base_url: str | None = option(
        None,
        "Address of an OpenAI-compatible endpoint, for the models of the root's provider.",
        MODELS,
        flag=Flag(metavar="URL"),
        changeable=True,
    )
    window_tokens: int | None = option(
        None,
        "Tokens of prompt and reply together, for models that the built-in table does not list.",
        MODELS,
        unit="tokens",
        bounds=AT_LEAST_1,
    )
    store: str | Path | None = option(
        DEFAULT_STORE,
        'The store of runs, which can then be inspected, resumed and replayed: a path, ``"memory"``, or None for no store.\n'
        '``"default"``: RLM_STORE, otherwise a file among the user\'s data.',
        RECORD,
        flag=Flag(
            "--store",
            'The store of runs: a path, "memory" or "none". RLM_STORE, otherwise the file among your data, if not given.',
            str | None,
            parse_store,
            metavar="PATH",
        ),
        unrecorded="the record is in it",
    )
    store_texts: bool = option(
        True,
        "Store texts. If False, hashes and numbers only; such a run cannot be resumed.",
        RECORD,
        flag=Flag("--no-store-texts", "Store hashes and numbers only; such a run cannot be resumed.", read=not_),
        unrecorded="the store has a column for it, and resumes no run without texts",
    )
    cache: bool = option(
        False,
        "Reuse answers to leaf calls of earlier runs that asked exactly the same, the same number of times.\n"
        "With ``store_texts=False``, answers are read and none is added.",
        RECORD,
    )

    def __post_init__(self) -> None:
        for name, declared in DECLARED.items():
            value = getattr(self, name)
            if isinstance(value, str) and type(value) is not str:  # an enumeration's, or one whose methods do anything
                value = str.__str__(value)
                object.__setattr__(self, name, value)
            if name == "sandbox_packages" and isinstance(value, str):
                raise ConfigurationError(
                    f"`sandbox_packages` must be a list of names; got {value!r}. Put it in brackets."
                )
            if declared.bounds is None:
                check_type(name, value, TYPES[name])
            if value is not None or DEFAULTS[name] is not None:
                declared.check(name, value)
        check_budget(self.budget)
        if isinstance(self.prompt, str):
            check_choice("prompt", self.prompt, sorted(FAMILIES))

    def recorded(self, models: Sequence[Model]) -> dict[str, JsonValue]:
        """The options as the record of a run stores them. ``models`` are those that were opened."""
        values: dict[str, JsonValue] = {}
        for name, declared in DECLARED.items():
            if not declared.unrecorded:
                value = getattr(self, name)
                values[name] = declared.encode(value) if declared.encode else value
        if self.base_url:
            values["base_url"] = redact_address(self.base_url)
        return values | {
            "models": [model.name for model in models],
            "windows": [model.info.window_tokens for model in models],
        }

    def choose_family(self) -> Callable[[str], PromptFamily]:
        """The rule from a model's name to its prompt family."""
        if self.prompt is None:
            family_of: Callable[[str], PromptFamily] = choose_family
        else:
            family = FAMILIES[self.prompt] if isinstance(self.prompt, str) else self.prompt
            family_of = lambda _: family  # noqa: E731
        return with_instructions(family_of, self.instructions) if self.instructions else family_of

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in DECLARED if getattr(self, name) != DEFAULTS[name]}
        shown |= {"api_key": REDACTED} if self.api_key else {}
        return SECRETS.redact_message(f"Options({', '.join(f'{name}={value!r}' for name, value in shown.items())})")

    def register_secrets(self) -> None:
        """Registers the secrets of these options and of the environment, so that nothing which a run leaves has them."""
        SECRETS.add([self.api_key, *secrets_of_address(self.base_url or ""), *secrets_of_environment(os.environ)])


class OptionsDict(TypedDict, total=False):
    """The keyword arguments of ``rlm.RLM``, for type checkers. A test compares it with ``Options``."""

    sub_model: str | Model | None
    models: Sequence[str | Model] | None
    max_depth: int
    max_iterations: int
    budget: Budget | None
    sandbox: str
    sandbox_packages: Sequence[str]
    concurrency: int | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    retries: int
    retry_seconds: float
    call_timeout_s: float
    hedge: bool
    cell_seconds: float
    memory_mb: int
    tools: Sequence[Callable[..., Any] | Tool | ToolSource] | ToolSource
    observation_chars: int
    cut_replies: CutRule
    warm_prefixes: WarmRule
    temperature: float | None
    max_output_tokens: int | None
    prompt: str | PromptFamily | None
    instructions: str | None
    citations: bool | None
    coverage: bool | None
    prefetch: bool
    setup_code: str | None
    prices: Mapping[str, tuple[float, ...]] | None
    sinks: Sequence[SinkLike]
    verbose: bool
    api_key: str | None
    base_url: str | None
    window_tokens: int | None
    store: str | Path | None
    store_texts: bool
    cache: bool


DECLARED = declarations(Options)
"""The declarations by name, in their order."""

DEFAULTS: dict[str, Any] = {declared.name: declared.default for declared in fields(Options)}
TYPES: dict[str, Any] = {declared.name: declared.type for declared in fields(Options)}


def restore_options(record: Mapping[str, JsonValue]) -> dict[str, Any]:
    """The options of a recorded run, as arguments of ``RLM``. What the record lacks has its default.

    Raises:
        ConfigurationError: the run's prompt was a function.
    """
    if record.get("prompt") == CUSTOM_PROMPT:
        raise ConfigurationError("The run's prompt is a function of the program that made it: call resume() there.")
    given: dict[str, Any] = {}
    for name, declared in DECLARED.items():
        if not declared.unrecorded and name in record:
            given[name] = declared.decode(record[name]) if declared.decode else record[name]
    return given


def check_budget(budget: object) -> None:
    """Raises ConfigurationError if ``budget`` is not a Budget."""
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(
            f"`budget` must be a Budget; got {show_given(budget)}. Give rlm.Budget(calls=..., usd=...)."
        )


def make_options(model: str | Model | None, given: OptionsDict) -> Options:
    """The options from the arguments of ``RLM``.

    Raises:
        TypeError: there is no option of a name.
        ConfigurationError: an option cannot be used.
    """
    for name in given:
        if name not in DECLARED:
            import difflib  # noqa: PLC0415  for this message only

            near = difflib.get_close_matches(name, DECLARED, 1)
            hint = FOREIGN_OPTIONS.get(name) or (f"Did you mean `{near[0]}`?" if near else "")
            raise TypeError(f"RLM() has no option `{name}`. {hint}".rstrip())
    return Options(model=model, **given)
