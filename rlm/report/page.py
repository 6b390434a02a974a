"""Builds the page: the run as data in a JSON block, the program that draws it, and a policy that forbids everything else.

All data is untrusted text. It reaches the page as JSON in a block that browsers do not execute, and the program shows it only as
text content. The policy allows style and program by their hashes, so injected content can neither run nor load anything.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.corpus import Corpus
from rlm.core.errors import ConfigurationError
from rlm.core.events import SCHEMA_VERSION, AnyEvent, RunFinished
from rlm.core.evidence import Citation, Coverage
from rlm.core.plain import dump_json
from rlm.core.plain_repr import plain_text
from rlm.core.redaction import SECRETS
from rlm.core.result import CoverageOfRun, Result
from rlm.core.tree import CallRecord, NodeRecord, ToolRecord
from rlm.core.tree_builder import TreeBuilder
from rlm.core.usage import Spend, sum_usage
from rlm.core.values import frozen
from rlm.report.documents import describe_documents

Json = object


@frozen
class Evidence:
    """Citations of the answer, the coverage of the sources if it was measured, and their texts if they are known."""

    citations: Sequence[Citation] = ()
    coverage: Coverage | None = None
    sources: Corpus | None = None


def make_page(run: str, root: NodeRecord | None, spend: Spend, evidence: Evidence | None = None) -> str:
    """One self-contained page for current browsers."""
    from html import escape  # noqa: PLC0415  two milliseconds, which most processes need not spend

    style, program = _part("page.css"), _part("evidence.js") + _part("page.js")
    described = {**describe_run(run, root, spend), **_describe_evidence(evidence or Evidence())}
    data = SECRETS.redact_text(dump_json(described))
    return (
        _part("page.html")
        .replace(
            "{{policy}}", f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(program)}; base-uri 'none'"
        )
        .replace("{{title}}", escape(f"run {run}"))
        .replace("{{style}}", style)
        .replace("{{program}}", program)
        # Last, so that no placeholder in it is filled, and escaped so that it cannot end its block.
        .replace("{{data}}", data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
    )


def report_html(result: Result) -> str:
    """A run as one self-contained HTML page with its tree, timeline, cells and calls. Needs no store.

    In a notebook: ``Path("run.html").write_text(rlm.report_html(result))``, and open that file.
    """
    if not isinstance(result, Result):
        raise ConfigurationError("report_html takes a Result; for a recorded run, use RLM(...).report_html(run_id).")
    measurement = result.measurement
    evidence = Evidence(result.citations, result.coverage, None if measurement is None else measurement.corpus)
    return make_page(result.run_id, result.tree, result.usage.total, evidence)


def page_of_events(run: str, events: Sequence[AnyEvent], measurement: CoverageOfRun | None = None) -> str:
    """The page of a recorded run, with its documents if ``measurement`` has them."""
    tree = TreeBuilder()
    for event in events:
        tree.add(event)
    evidence = Evidence(citations_of(events))
    if measurement is not None:
        evidence = Evidence(evidence.citations, measurement.value, measurement.corpus)
    return make_page(run, tree.root, sum_usage(events).total, evidence)


def citations_of(events: Sequence[AnyEvent]) -> Sequence[Citation]:
    """The citations of a recorded run's answer."""
    last = events[-1] if events else None
    return last.citations if isinstance(last, RunFinished) else ()


def _describe_evidence(evidence: Evidence) -> dict[str, Json]:
    coverage = evidence.coverage
    return {
        "citations": [
            {"path": item.path, "place": item.place, "quote": item.quote, "verified": item.verified}
            for item in evidence.citations
        ],
        "coverage": None
        if coverage is None
        else {
            "summary": coverage.summary(),
            "documents": [
                {"path": item.path, "chars": item.chars, "read": item.read_chars, "ranges": item.ranges}
                for item in coverage.documents
            ],
        },
        "documents": []
        if evidence.sources is None
        else describe_documents(evidence.sources, evidence.citations, coverage),
    }


def event_lines(events: Sequence[AnyEvent]) -> Iterator[str]:
    """Each event as a line of JSON, with its kind and the version of the schema."""
    for event in events:
        fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        if "schema" in fields:  # the schema of an answer, beside the version of the events
            fields["answer_schema"] = fields.pop("schema")
        yield SECRETS.redact_text(dump_json({"schema": SCHEMA_VERSION, "event": type(event).__name__, **fields})) + "\n"


def describe_run(run: str, root: NodeRecord | None, spend: Spend) -> dict[str, Json]:
    """The data of the page: nodes with their cells, and calls that name their nodes by index."""
    nodes = root.walk() if root else []
    calls = [call for node in nodes for call in node.calls]
    node_index = {id(node): number for number, node in enumerate(nodes)}
    call_index = {id(call): number for number, call in enumerate(calls)}
    parents = {id(child): node_index[id(node)] for node in nodes for child in node.children}
    turns = {id(call): call_index[id(turn)] for node in nodes for turn, calls in node.calls_by_turn() for call in calls}
    records: list[NodeRecord | CallRecord] = [*nodes, *calls]
    return {
        "run": run,
        "ends": max((record.ended_s or record.started_s for record in records), default=0.0),
        "tokens": spend.usage.total_tokens,
        "cost": None if spend.unpriced_calls else spend.cost_usd,
        "nodes": [_describe_node(node, parents.get(id(node))) for node in nodes],
        "calls": [
            _describe_call(call, node_index[id(node)], turns.get(id(call))) for node in nodes for call in node.calls
        ],
    }


def _describe_node(node: NodeRecord, parent: int | None) -> dict[str, Json]:
    return {
        "id": node.id,
        "parent": parent,
        "depth": node.depth,
        "model": node.model,
        "question": node.question,
        "context": node.context,
        "starts": node.started_s,
        "ends": node.ended_s,
        "status": "superseded" if node.superseded else node.status,
        "answer": _text_of(node.answer),
        "error": node.error,
        "cells": [_describe_cell(node, *cell) for cell in (*node.cells, *_open_cells(node))],
    }


def _open_cells(node: NodeRecord) -> list[tuple[Cell, None]]:
    return [] if node.open_cell is None else [(node.open_cell, None)]


def _describe_cell(node: NodeRecord, cell: Cell, result: CellResult | None) -> dict[str, Json]:
    """A cell with the errors of its refused sub-calls. ``result`` is None if it has not ended."""
    return {
        "name": cell.name,
        "turn": cell.turn,
        "number": cell.number,
        "code": cell.code,
        "end": "open" if result is None else result.end,
        "output": "" if result is None else result.shown,
        "took": None if result is None else result.elapsed_s,
        "refused": node.refused_in(cell),
        "tools": [_describe_tool(tool) for tool in node.tools_in(cell)],
    }


def _describe_tool(tool: ToolRecord) -> dict[str, Json]:
    """A tool call: its text, and its result or error."""
    return {
        "id": tool.id,
        "tool": tool.shown,
        "starts": tool.started_s,
        "ends": tool.ended_s,
        "result": tool.result,
        "error": tool.error,
        "interrupted": tool.interrupted,
    }


def _describe_call(call: CallRecord, node: int, turn: int | None) -> dict[str, Json]:
    """A call. ``of`` is the index of the turn that its cell or summary belongs to, None for turns."""
    usage = call.usage
    return {
        "id": call.id,
        "node": node,
        "of": turn,
        "role": call.role,
        "model": call.model,
        "turn": call.turn,
        "cell": call.cell,
        "batch": call.batch,
        "starts": call.started_s,
        "sent": call.sent_s,
        "ends": call.ended_s,
        "prompt": call.prompt,
        "reply": call.reply,
        "error": call.error,
        "in": usage.input_tokens,
        "prefix": usage.cached_tokens,
        "out": usage.output_tokens,
        "cost": call.cost_usd,
        "cached": call.cached,
        "superseded": call.superseded,
    }


def _text_of(value: PlainValue) -> str | None:
    return None if value is None else plain_text(value)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
