"""``rlm eval``: compares methods on tasks with exact answers and reports the results."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from rlm.cli.exits import Exit, complain
from rlm.cli.output import write_answer
from rlm.core.errors import ConfigurationError
from rlm_evals.arms import Terms, describe_terms, open_arm, parse_arm
from rlm_evals.exchange import read_items, write_items
from rlm_evals.harness import Plan, Tally, TotalBudget, run_comparison
from rlm_evals.item import Item
from rlm_evals.plot import draw_report
from rlm_evals.pools import Pools
from rlm_evals.report import format_length, render_report, summarise
from rlm_evals.results import Line, ResultsFile, latest, read_results
from rlm_evals.tasks import known_tasks, make_items

app = App(name="eval", help="Compare methods on tasks with exact answers.")

Positive = Parameter(validator=Number(gte=1))
Lengths = Annotated[tuple[str, ...], Parameter(name=["--length", "-l"], consume_multiple=True)]
Tasks = Annotated[tuple[str, ...], Parameter(name=["--task", "-t"], consume_multiple=True)]


@app.command(usage="Usage: rlm eval run RESULTS --arm ARM... --task TASK... --length N... [OPTIONS]")
def run(
    results: Path,
    /,
    *,
    arm: Annotated[tuple[str, ...], Parameter(name=["--arm", "-a"], consume_multiple=True)],
    task: Tasks = (),
    length: Lengths = ("8K",),
    count: Annotated[int, Parameter(name=["--count", "-n"]), Positive] = 25,
    seed: int = 0,
    items: Path | None = None,
    data: Path | None = None,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    sub_model: str | None = None,
    base_url: str | None = None,
    parallel: Annotated[int, Positive] = 4,
    concurrency: Annotated[int, Positive] = 64,
    max_usd: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    max_tokens: Annotated[int | None, Positive] = None,
    max_calls: Annotated[int | None, Positive] = None,
    max_iterations: Annotated[int, Positive] = 20,
    max_seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 3600.0,
    max_output_tokens: Annotated[int | None, Positive] = None,
    temperature: float | None = None,
    retries: Annotated[int, Parameter(validator=Number(gte=0))] = 5,
    rows_per_prompt: Annotated[int, Positive] = 40,
    price: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    sandbox: str = "auto",
    total_usd: float | None = None,
    total_calls: Annotated[int | None, Positive] = None,
    total_seconds: float | None = None,
    retry_errors: bool = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False,
) -> int:
    """Run every item in every arm and append the outcomes to RESULTS. The same command resumes an interrupted run.

    Parameters
    ----------
    results
        File of JSON lines; created if missing.
    arm
        direct, code, rlm:0 to rlm:9, reference:1 and deeper (no model: must score 1.00). KIND@MODEL[+SUB_MODEL][=BASE_URL]
        sets an arm's own model or endpoint.
    task
        A name from rlm eval tasks. Repeatable.
    length
        Nominal tokens of the context: 1K to 4M. Repeatable.
    count
        Items per task and length.
    seed
        Seed of the item generators.
    items
        Read items from a file: output of rlm eval make, or rows of OOLONG or RULER as JSON lines.
    data
        Folder with sources that cannot be redistributed (trec_coarse, agnews), or a haystack.txt.
    model
        Model of all arms without a model of their own.
    sub_model
        Model of their sub-calls.
    base_url
        Address of an OpenAI-compatible endpoint.
    parallel
        Items in parallel.
    concurrency
        Maximum number of concurrent calls to one model, per item.
    max_usd
        Dollar limit of an item.
    max_tokens
        Token limit of an item.
    max_calls
        Limit of model calls of an item.
    max_iterations
        Limit of turns of a node.
    max_seconds
        Time limit of an item.
    max_output_tokens
        Output limit of each reply.
    temperature
        Sampling temperature of each call.
    retries
        Retries of a call after a transient failure.
    rows_per_prompt
        Rows that one leaf call labels, for reference arms with a real model.
    price
        MODEL=INPUT/OUTPUT, in dollars per million tokens.
    sandbox
        Isolation level for model-written code.
    total_usd
        Dollar limit of the comparison. No item starts beyond it. Never exceeded if --max-usd is set.
    total_calls
        The same for calls. Never exceeded if --max-calls is set.
    total_seconds
        The same for time.
    retry_errors
        Retry items that failed with a transient error.
    quiet
        Print no line per item.
    """
    terms = Terms(
        model=model,
        sub_model=sub_model,
        base_url=base_url,
        usd=max_usd,
        tokens=max_tokens,
        calls=max_calls,
        iterations=max_iterations,
        seconds=max_seconds,
        temperature=temperature,
        max_output_tokens=max_output_tokens,
        concurrency=concurrency,
        retries=retries,
        sandbox=sandbox,
        rows_per_prompt=rows_per_prompt,
        prices=dict(map(_parse_price, price)),
    )
    lengths = [parse_length(text) for text in length]
    source = read_items(items) if items else _all_items(task, lengths, count, seed, Pools(data))
    plan = Plan(
        items=source,
        arms={spec.name: open_arm(spec, terms) for spec in map(parse_arm, arm)},
        parallel=parallel,
        budget=TotalBudget(total_usd, total_calls, total_seconds),
        calls_per_item=max_calls,
        usd_per_item=max_usd,
        retry_errors=retry_errors,
    )
    with ResultsFile(results, describe_terms(terms)) as file:
        tally = run_comparison(plan, file, None if quiet else _report_progress)
        write_answer(render_report(describe_terms(terms), latest(file.lines)), sys.stdout)
    return _conclude(tally, results)


@app.command(usage="Usage: rlm eval report RESULTS... [OPTIONS]")
def report(
    results: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    /,
    *,
    baseline: str | None = None,
    plot: Path | None = None,
    task: str | None = None,
) -> int:
    """Print a table of all arms, and paired differences between arms on the same items.

    Parameters
    ----------
    results
        Files of rlm eval run; several are merged.
    baseline
        Arm to compare the others with. [default: the first by name]
    plot
        Write a plot of score and cost over length to this SVG file.
    task
        Restrict the report to tasks with this prefix.
    """
    settings: dict[str, object] = {}
    lines: list[Line] = []
    for path in results:
        file_settings, file_lines = read_results(path)
        settings.update(file_settings)
        lines += [line for line in file_lines if line.task.startswith(task or "")]
    if not lines:
        raise ConfigurationError("the files must hold at least one result; got none for these tasks.")
    lines = latest(lines)
    if baseline and baseline not in {line.arm for line in lines}:
        raise ConfigurationError(
            f"--baseline must be one of {', '.join(sorted({line.arm for line in lines}))}; got {baseline}."
        )
    write_answer(render_report(settings, lines, baseline), sys.stdout)
    if plot:
        plot.write_text(draw_report(summarise(lines, merge_tasks=True), task or ""), encoding="utf-8")
        complain(f"wrote {plot}")
    return Exit.COMPLETE


@app.command(usage="Usage: rlm eval tasks")
def tasks() -> int:
    """List the tasks that run on the packed data."""
    write_answer("\n".join(known_tasks()), sys.stdout)
    return Exit.COMPLETE


@app.command(usage="Usage: rlm eval make ITEMS --task TASK... --length N... [OPTIONS]")
def make(
    items: Path,
    /,
    *,
    task: Tasks,
    length: Lengths = ("8K",),
    count: Annotated[int, Parameter(name=["--count", "-n"]), Positive] = 25,
    seed: int = 0,
    data: Path | None = None,
) -> int:
    """Write items with their gold answers to a file of JSON lines, for use elsewhere.

    Parameters
    ----------
    items
        The file to write.
    task
        A name from rlm eval tasks.
    length
        Nominal tokens of the context: 1K to 4M.
    count
        Items per task and length.
    seed
        Seed of the item generators.
    data
        Folder with sources that cannot be redistributed.
    """
    number = write_items(items, _all_items(task, [parse_length(text) for text in length], count, seed, Pools(data)))
    complain(f"wrote {number} items to {items}")
    return Exit.COMPLETE


def parse_length(text: str) -> int:
    """Parses ``32K``, ``1M`` or a plain number of tokens.

    Raises:
        ConfigurationError: the text has another form.
    """
    unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:].upper())
    digits = text[:-1] if unit else text
    if not digits.isdecimal():
        raise ConfigurationError(f"--length must be like 32K, 1M or a number of tokens; got {text}.")
    return int(digits) * (unit or 1)


def _parse_price(text: str) -> tuple[str, tuple[float, float]]:
    model, _, prices = text.rpartition("=")
    try:
        input_price, output_price = map(float, prices.split("/"))
    except ValueError:
        raise ConfigurationError(
            f"--price must be MODEL=INPUT/OUTPUT, in dollars per million tokens; got {text}."
        ) from None
    return model, (input_price, output_price)


def _all_items(names: tuple[str, ...], lengths: list[int], count: int, seed: int, pools: Pools) -> Iterator[Item]:
    """Items of all tasks and lengths, validated before the first item is generated."""
    if not names:
        raise ConfigurationError(f"--task or --items FILE is required. Tasks: {', '.join(known_tasks())}.")
    sources = [make_items(name, length, count, seed=seed, pools=pools) for name in names for length in lengths]
    return (item for source in sources for item in source)


def _report_progress(line: Line, tally: Tally) -> None:
    labels = f", labels {line.labels_right / line.labels_judged:.1%}" if line.labels_judged else ""
    error = f", {line.error}: {line.message}" if line.error else ""
    complain(
        f"{tally.done + tally.skipped}: {line.arm} {line.task} {format_length(line.length)}: {line.score:.3f} ({line.status}, "
        f"{line.calls} calls, {line.elapsed_s:.1f} s{labels}{error})"
    )


def _conclude(tally: Tally, results: Path) -> Exit:
    before = f", {tally.skipped} already in the file" if tally.skipped else ""
    complain(f"{tally.done} done{before}, {tally.failed} failed; {tally.calls} calls, ${tally.usd:.4f}; in {results}")
    if tally.stopped:
        complain(f"stopped early at the total limit of {tally.stopped}. Raise it and run the same command to continue.")
        return Exit.PARTIAL
    return Exit.COMPLETE
