"""``rlm eval``: compare ways of answering on tasks with exact answers, and read the results.

It turns arguments into a plan and results into text. What tasks, arms and scores are is decided in ``rlm_evals``.
"""

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

app = App(name="eval", help="Compare ways of answering on tasks with exact answers.")

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
    """Run every item in every arm, and append what comes of each to RESULTS. Run again, it goes on where it stopped.

    Parameters
    ----------
    results
        File of JSON lines; made where it does not exist.
    arm
        direct, code, rlm:0 to rlm:9, reference:1 and deeper (no model: must score 1.00). KIND@MODEL[+SUB_MODEL][=BASE_URL]
        names an arm's own model or endpoint.
    task
        See rlm eval tasks. Several may be given.
    length
        Nominal tokens of the context: 1K to 4M. Several may be given.
    count
        Items of each task at each length.
    seed
        Another one gives other items.
    items
        Items from a file instead: of rlm eval make, or rows of OOLONG or RULER as JSON lines.
    data
        Folder with sources that may not be redistributed (trec_coarse, agnews), or a haystack.txt.
    model
        The model of all arms that name none.
    sub_model
        Their model for sub-calls.
    base_url
        Address of an OpenAI-compatible endpoint.
    parallel
        Items at once.
    concurrency
        Calls to one model in flight at most, for each item.
    max_usd
        Dollars an item may take.
    max_tokens
        Tokens an item may take.
    max_calls
        Model calls an item may take.
    max_iterations
        Turns a node may take.
    max_seconds
        Time an item may take.
    max_output_tokens
        Of each reply.
    temperature
        Of each call.
    retries
        Further attempts for a call that failed in a way that may pass.
    rows_per_prompt
        For reference arms with a real model: rows that one leaf call labels.
    price
        MODEL=INPUT/OUTPUT, in dollars for a million tokens.
    sandbox
        Isolation level for model-written code.
    total_usd
        No item begins once this many dollars are spent; never exceeded if --max-usd is given too.
    total_calls
        The same for calls; never exceeded if --max-calls is given too.
    total_seconds
        The same for time.
    retry_errors
        Try items again that failed for a reason that may have passed.
    quiet
        No line for each item.
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
    lengths = [parse_length(each) for each in length]
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
        tally = run_comparison(plan, file, None if quiet else _tell)
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
    """Print what results say: a table of arms, and arms against each other on the same items.

    Parameters
    ----------
    results
        Files of rlm eval run; several are read as one.
    baseline
        The arm that the others are compared with; the first by name if not given.
    plot
        Write score and cost over length to this SVG file.
    task
        Only tasks whose name begins so.
    """
    settings: dict[str, object] = {}
    lines: list[Line] = []
    for path in results:
        own, found = read_results(path)
        settings.update(own)
        lines += [line for line in found if line.task.startswith(task or "")]
    if not lines:
        raise ConfigurationError("there are no results to report.")
    lines = latest(lines)
    if baseline and baseline not in {line.arm for line in lines}:
        raise ConfigurationError(
            f"--baseline {baseline}: no such arm. There are: {', '.join(sorted({line.arm for line in lines}))}."
        )
    write_answer(render_report(settings, lines, baseline), sys.stdout)
    if plot:
        plot.write_text(draw_report(summarise(lines, merge_tasks=True), task or ""), encoding="utf-8")
        complain(f"wrote {plot}")
    return Exit.COMPLETE


@app.command(usage="Usage: rlm eval tasks")
def tasks() -> int:
    """List the tasks that need no data of your own."""
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
    """Write items with their gold answers to a file of JSON lines, to be run elsewhere.

    Parameters
    ----------
    items
        The file to write.
    task
        See rlm eval tasks.
    length
        Nominal tokens of the context: 1K to 4M.
    count
        Items of each task at each length.
    seed
        Another one gives other items.
    data
        Folder with sources that may not be redistributed.
    """
    number = write_items(items, _all_items(task, [parse_length(each) for each in length], count, seed, Pools(data)))
    complain(f"wrote {number} items to {items}")
    return Exit.COMPLETE


def parse_length(text: str) -> int:
    """``32K``, ``1M`` or a plain number of tokens.

    Raises:
        ConfigurationError: it is none.
    """
    unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:].upper())
    digits = text[:-1] if unit else text
    if not digits.isdecimal():
        raise ConfigurationError(f"--length {text}: write 32K, 1M or a number of tokens.")
    return int(digits) * (unit or 1)


def _parse_price(text: str) -> tuple[str, tuple[float, float]]:
    model, _, prices = text.rpartition("=")
    try:
        given, taken = map(float, prices.split("/"))
    except ValueError:
        raise ConfigurationError(
            f"--price {text}: write MODEL=INPUT/OUTPUT, in dollars for a million tokens."
        ) from None
    return model, (given, taken)


def _all_items(names: tuple[str, ...], lengths: list[int], count: int, seed: int, pools: Pools) -> Iterator[Item]:
    """Tasks and lengths are checked before the first item is made."""
    if not names:
        raise ConfigurationError(
            f"which tasks? Give --task, one or several of: {', '.join(known_tasks())}; or --items FILE."
        )
    sources = [make_items(name, each, count, seed=seed, pools=pools) for name in names for each in lengths]
    return (item for source in sources for item in source)


def _tell(line: Line, tally: Tally) -> None:
    labels = f", labels {line.labels_right / line.labels_judged:.1%}" if line.labels_judged else ""
    error = f", {line.error}: {line.message}" if line.error else ""
    complain(
        f"{tally.done + tally.skipped}: {line.arm} {line.task} {format_length(line.length)}: {line.score:.3f} ({line.status}, "
        f"{line.calls} calls, {line.elapsed_s:.1f} s{labels}{error})"
    )


def _conclude(tally: Tally, results: Path) -> Exit:
    before = f", {tally.skipped} were there before" if tally.skipped else ""
    complain(f"{tally.done} done{before}, {tally.failed} failed; {tally.calls} calls, ${tally.usd:.4f}; in {results}")
    if tally.stopped:
        complain(
            f"stopped early: the total limit of {tally.stopped} is met. Raise it and run the same command to go on."
        )
        return Exit.PARTIAL
    return Exit.COMPLETE
