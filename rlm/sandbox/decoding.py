"""Strict decoding of a worker's messages: every number, length and type is checked against its limit.

The worker runs hostile code, so anything malformed raises ProtocolViolationError. Decoding a large message takes many steps,
each of at most a few milliseconds: such functions are generators (``Steps``). All functions are pure.
"""

from __future__ import annotations

from typing import Any

from rlm.core.cells import PlainValue, Quote, Variable
from rlm.core.errors import ProtocolViolationError
from rlm.core.subcalls import BudgetQuery, ModelQuery, Subcall, ToolCall
from rlm.core.tools import MAX_TOOLS
from rlm.sandbox.messages import Done
from rlm.sandbox.worker.wire.frames import Message, decode_text
from rlm.sandbox.worker.wire.images import ImageQuery
from rlm.sandbox.worker.wire.pieces import INLINE_BYTES, MAX_TOOL_BYTES, TEXT_PIECE_BYTES, Steps, read_text, read_value
from rlm.sandbox.worker.wire.values import load

MAX_TEXT_CHARS = 200_000  # of an echo or a traceback; the worker cuts at half of this
MAX_NOTES = 200
MAX_VARIABLES = 1000
MAX_NAME_CHARS = 10_000
MAX_TOOL_NAME_CHARS = 200
MAX_LIST_ITEMS = 1024
MAX_QUOTES = 2000
MAX_QUOTE_CHARS = 10_000


def decode_subcalls(message: Message, first: int) -> Steps[tuple[Subcall, ...]]:
    """Decodes the sub-calls of one message, numbered from ``first``. The message's ``kind`` tag applies to all of them."""
    match message.header.get("kind"):
        case "model":
            return (yield from _decode_model_queries(message, first))
        case "budget":
            return (_decode_budget_query(message, first),)
        case "tool":
            return ((yield from _decode_tool_call(message, first)),)
        case _:
            raise ProtocolViolationError("a worker sent a sub-call of an unknown kind")


def _decode_budget_query(message: Message, number: int) -> BudgetQuery:
    if message.body or message.header.keys() != {"t", "kind", "first"}:
        raise ProtocolViolationError("a worker sent a budget query with a prompt or options")
    return BudgetQuery(number)


def _decode_tool_call(message: Message, number: int) -> Steps[ToolCall]:
    header, size = message.header, len(message.body)
    if header.keys() != {"t", "kind", "first", "tool", "as"} or size > MAX_TOOL_BYTES:
        raise ProtocolViolationError("malformed or too large tool call from worker")
    tool = check_text(header["tool"], MAX_TOOL_NAME_CHARS)
    given = yield from read_value(header["as"], memoryview(message.body))
    if not isinstance(given, dict) or given.keys() != {"args", "kwargs"}:
        raise ProtocolViolationError("malformed arguments of a tool call from worker")
    args, kwargs = given["args"], given["kwargs"]
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise ProtocolViolationError("malformed arguments of a tool call from worker")
    return ToolCall(number, tool, tuple(args), kwargs, size)


def _decode_model_queries(message: Message, first: int) -> Steps[tuple[ModelQuery, ...]]:
    header, body = message.header, memoryview(message.body)
    lengths = [check_int(length, len(body)) for length in check_list(header.get("prompts"), MAX_LIST_ITEMS)]
    if not lengths:
        raise ProtocolViolationError("a worker sent a sub-call without prompts")
    options_length = check_int(header.get("options", 0), len(body))
    contexts = [_context(item, len(body)) for item in check_list(header.get("contexts", []), MAX_LIST_ITEMS)]
    if len(contexts) not in (0, 1, len(lengths)):
        raise ProtocolViolationError("a worker sent contexts that do not match its prompts")
    sizes = [options_length, *(length for _, length in contexts), *lengths]
    if sum(sizes) != len(body):
        raise ProtocolViolationError("a worker sent lengths that do not add up")
    at = options_length
    options = _read_options(body[:at])
    values = []
    for kind, length in contexts:
        values.append((yield from read_value(kind, body[at : at + length])))
        at += length
    batch = None if header.get("batch") is None else check_int(header["batch"], 2**53)
    context_bytes = sum(length for _, length in contexts) // max(1, len(contexts))
    queries = []
    for index, length in enumerate(lengths):
        piece = body[at : at + length]
        at += length
        context: PlainValue = values[index if len(values) > 1 else 0] if values else None
        has_context, images = bool(values), tuple[str, ...]()
        if isinstance(context, ImageQuery):
            has_context, images, context = context.has_context, context.ids, context.context
        queries.append(
            ModelQuery(
                number=first + index,
                prompt=decode_text(bytes(piece)) if length <= TEXT_PIECE_BYTES else (yield from read_text(piece)),
                context=context,
                has_context=has_context,
                batch=batch,
                prefetched=header.get("ahead") is True,
                images=images,
                size=length + context_bytes,
                **options,
            )
        )
        yield
    return tuple(queries)


def decode_done(message: Message, output_chars: int, prefetched: int) -> Steps[Done]:
    """Decodes the end of a cell that sent ``prefetched`` calls ahead of time."""
    header, body = message.header, memoryview(message.body)
    end = header.get("end")
    if end not in ("ok", "error", "exit", "interrupted"):
        raise ProtocolViolationError("a worker ended a cell with an unknown status")
    info_length = check_int(header.get("info"), len(body))
    info = yield from read_value(header.get("as", "j"), body[:info_length])
    if not isinstance(info, dict):
        raise ProtocolViolationError("malformed report from worker")
    kind = header.get("answer")
    omitted = [check_int(item, 2**53) for item in check_list(info.get("omitted"), 2)]
    tails = [check_text(item, output_chars) for item in check_list(info.get("tails"), 2)]
    if len(omitted) != 2 or len(tails) != 2:
        raise ProtocolViolationError("incomplete report from worker")
    return Done(
        end=end,
        echo=_optional_text(info.get("echo")),
        error=_optional_text(info.get("error")),
        traceback=_optional_text(info.get("traceback")),
        notes=tuple(check_text(note, MAX_TEXT_CHARS) for note in check_list(info.get("notes"), MAX_NOTES)),
        variables=tuple(_variable(item) for item in check_list(info.get("variables"), MAX_VARIABLES)),
        omitted=(omitted[0], omitted[1]),
        tails=(tails[0], tails[1]),
        answer=None if kind is None else ((yield from read_value(kind, body[info_length:])),),
        prefetched=prefetched,
        prefetches_used=check_int(info.get("used", 0), prefetched),
        cited=_quotes(info.get("cited", [])),
        answer_cites=_quotes(info.get("answer_cites", [])),
    )


def _read_options(data: memoryview) -> dict[str, Any]:
    if not data:
        return {}
    if len(data) > INLINE_BYTES:
        raise ProtocolViolationError("a worker sent options that are too large")
    options = load("j", bytes(data), hostile=True)
    if not isinstance(options, dict) or not options.keys() <= {"model", "schema", "recursive", "tools"}:
        raise ProtocolViolationError("a worker sent a sub-call with unknown options")
    model, schema, recursive = options.get("model"), options.get("schema"), options.get("recursive")
    if not (isinstance(schema, dict | None) and isinstance(recursive, bool | None)):
        raise ProtocolViolationError("a worker sent a sub-call with options of the wrong type")
    if model is not None:
        check_text(model, MAX_NAME_CHARS)
    if "tools" in options:
        names = check_list(options["tools"], MAX_TOOLS)
        options["tools"] = tuple(check_text(name, MAX_TOOL_NAME_CHARS) for name in names)
    return options


def check_int(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ProtocolViolationError("a worker sent a number that is out of range")
    return value


def check_list(value: object, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolViolationError("a worker sent a value that is not a list, or a list that is too long")
    return value


def _context(value: object, most: int) -> tuple[object, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ProtocolViolationError("malformed context from worker")
    return value[0], check_int(value[1], most)


def check_text(value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ProtocolViolationError("a worker sent a value that is not text, or a text that is too long")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else check_text(value, MAX_TEXT_CHARS)


def _quotes(value: object) -> tuple[Quote, ...]:
    quotes = []
    for item in check_list(value, MAX_QUOTES):
        if not isinstance(item, list) or len(item) != 2:
            raise ProtocolViolationError("malformed quote from worker")
        path = None if item[1] is None else check_text(item[1], MAX_NAME_CHARS)
        quotes.append(Quote(check_text(item[0], MAX_QUOTE_CHARS), path))
    return tuple(quotes)


def _variable(value: object) -> Variable:
    if not isinstance(value, list) or len(value) != 3:
        raise ProtocolViolationError("malformed variable from worker")
    name, kind, size = value
    return Variable(
        check_text(name, MAX_NAME_CHARS),
        check_text(kind, MAX_NAME_CHARS),
        None if size is None else check_int(size, 2**62),
    )
