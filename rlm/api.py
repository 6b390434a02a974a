"""The public API: ``RLM`` and ``ask``. ``runtime/assembly.py`` chooses and connects the parts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from rlm.argument_types import check_type
from rlm.core.answer_form import AnswerForm
from rlm.core.budget import Budget
from rlm.core.cells import PlainValue
from rlm.core.estimates import Estimate
from rlm.core.foreign_names import FOREIGN_METHODS, missing_attribute
from rlm.core.ids import RunId
from rlm.core.option import describe_options, options_signature
from rlm.core.question import Question
from rlm.core.result import Result
from rlm.core.sizes import LIGHT_ITEMS
from rlm.documents.values import Documents, names_files
from rlm.engine.continuation import Continuation
from rlm.engine.run import Run
from rlm.options import Options, OptionsDict, check_budget, make_options
from rlm.ports import Model, SinkLike
from rlm.report.page import page_of_events
from rlm.runtime.arguments import PlainSchema, RunOptions, StartOptions, answer_form
from rlm.runtime.assembly import Assembly
from rlm.runtime.contexts import needs_conversion, plain_context
from rlm.runtime.handles import EventLog, RunHandle, Stream
from rlm.runtime.loop import BACKGROUND
from rlm.runtime.reruns import Reruns, plain_input
from rlm.runtime.sessions import AsyncSession, Session, SessionSetup, restore_session
from rlm.runtime.stored_runs import recorded_measurement

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class RLM(Reruns):
    """A Recursive Language Model: answers questions over inputs of any size.

    The input becomes the variable ``context`` of a sandboxed Python REPL. The root model writes code that inspects it and asks
    other models about pieces of it, in parallel and recursively. (Zhang, Kraska, Khattab: "Recursive Language Models",
    arXiv 2512.24601.)

    An object can be used from many threads and event loops at once; every call is a run of its own. ``close()`` releases
    connections, and so does the end of the process.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    __signature__ = options_signature(Options)

    def __init__(self, model: str | Model | None = None, **options: Unpack[OptionsDict]) -> None:
        self.options = make_options(model, options)
        super().__init__(Assembly(self.options))

    @overload
    def run(
        self, query: str | None, context: PlainValue = None, *, schema: PlainSchema = None, **more: Unpack[RunOptions]
    ) -> Result: ...
    @overload
    def run(
        self, query: str | None, context: PlainValue = None, *, schema: TypeForm[T], **more: Unpack[RunOptions]
    ) -> Result[T]: ...
    def run(
        self, query: str | None, context: PlainValue = None, *, schema: Any = None, on_event: SinkLike | None = None
    ) -> Result:
        """Answers ``query`` over ``context`` and waits for it; Ctrl-C stops the run. See ``arun``."""
        form = answer_form(schema)
        return BACKGROUND.wait(self.execute(query, plain_context(context), form=form, sinks=_sinks(on_event)))

    @overload
    async def arun(
        self, query: str | None, context: PlainValue = None, *, schema: PlainSchema = None, **more: Unpack[RunOptions]
    ) -> Result: ...
    @overload
    async def arun(
        self, query: str | None, context: PlainValue = None, *, schema: TypeForm[T], **more: Unpack[RunOptions]
    ) -> Result[T]: ...
    async def arun(
        self, query: str | None, context: PlainValue = None, *, schema: Any = None, on_event: SinkLike | None = None
    ) -> Result:
        """Answers ``query`` over ``context``. Cancelling the task stops the run.

        Args:
            query: the question; None if ``context`` itself contains it.
            context: str, list of str, list of messages, dict, or other plain data. Dataclasses and pydantic models become
                dicts, generators become lists. Also ``rlm.Documents``, or path objects, whose files are read as
                ``rlm.load`` does.
            schema: the type of the answer, for instance a dataclass or ``list[int]``, or a JSON schema. The answer is then an
                instance of the type, or plain data. See docs/typed-answers.md.
            on_event: called with every event of this run, on the engine's thread; it must not block.

        Returns:
            The answer with its status, usage, cost and tree.

        Raises:
            RLMError: there is no answer; ``error.result`` holds what the run had reached. See ``rlm.errors``.
        """
        if needs_conversion(context):
            context = await asyncio.to_thread(plain_context, context)
        work = self.execute(query, context, form=answer_form(schema), sinks=_sinks(on_event))
        return await BACKGROUND.run(work)

    @overload
    def start(
        self, query: str | None, context: PlainValue = None, *, schema: PlainSchema = None, **more: Unpack[StartOptions]
    ) -> RunHandle: ...
    @overload
    def start(
        self, query: str | None, context: PlainValue = None, *, schema: TypeForm[T], **more: Unpack[StartOptions]
    ) -> RunHandle[T]: ...
    def start(
        self,
        query: str | None,
        context: PlainValue = None,
        *,
        schema: Any = None,
        on_event: SinkLike | None = None,
        sinks: Sequence[SinkLike] = (),
        sources: Sequence[str] = (),
    ) -> RunHandle:
        """Starts a run and returns its handle: ``run.result()``, ``await run``, ``async for event in run``, ``run.cancel()``.

        Args:
            query, context, schema, on_event: as for ``arun``.
            sinks: receivers of the events of this run, besides those of this object.
            sources: the files that ``context`` was read from; recorded, so that a resumed run can read them again.
        """
        check_type("sinks", sinks, Sequence[object])
        check_type("sources", sources, Sequence[str])
        log = EventLog()
        context = plain_context(context)
        if names_files(context):
            context, read_from = BACKGROUND.wait(self._read(context))
            sources = sources or read_from
        question = _question(query, context, answer_form(schema), sources=tuple(map(str.__str__, sources)))
        return RunHandle(self._parts.new_run(question, (*sinks, *_sinks(on_event), log)), log)

    @overload
    def stream(self, query: str | None, context: PlainValue = None, *, schema: PlainSchema = None) -> Stream: ...
    @overload
    def stream(self, query: str | None, context: PlainValue = None, *, schema: TypeForm[T]) -> Stream[T]: ...
    def stream(self, query: str | None, context: PlainValue = None, *, schema: Any = None) -> Stream:
        """A run that starts with the loop over its events: ``async for event in engine.stream(query, context)``."""
        return Stream(lambda: self.start(query, context, schema=schema))

    def session(
        self, context: PlainValue = None, *, budget: Budget | None = None, sources: Sequence[str] = ()
    ) -> Session:
        """A session: several questions over ``context``, with one REPL and one conversation.

            with engine.session(text) as session:
                session.ask("Who are the suppliers?")
                session.ask("Which of them changed their terms?")

        Args:
            context: as for ``arun``.
            budget: dollars, tokens, calls and seconds of all questions together. This object's budget applies to each question.
            sources: the files that ``context`` was read from.
        """
        return Session(self._session_setup(context, budget, sources))

    def asession(
        self, context: PlainValue = None, *, budget: Budget | None = None, sources: Sequence[str] = ()
    ) -> AsyncSession:
        """The async form of ``session``: ``async with engine.asession(text) as session: await session.ask("...")``."""
        return AsyncSession(self._session_setup(context, budget, sources))

    def resume_session(
        self, run_id: str = "last", context: PlainValue = None, *, budget: Budget | None = None
    ) -> Session:
        """Opens a recorded session again, with its conversation and its variables.

        The cells of its questions are executed again, with recorded answers. ``session.cut_off`` is the question at which its
        process ended; ``session.resume()`` continues it.

        Args:
            run_id: one of its questions; the session continues after that one. "last" is the newest run.
            context: needed if it was too large to be stored; must be the same.
            budget: as for ``session``.

        Raises:
            UnknownRunError, IncompleteRecordError: the record is not sufficient.
        """
        preparing = restore_session(self._parts, run_id, plain_input(context), budget)
        return Session(BACKGROUND.wait(preparing))

    def _session_setup(self, context: PlainValue, budget: Budget | None, sources: Sequence[str]) -> SessionSetup:
        check_budget(budget)
        context = plain_context(context)
        if names_files(context):
            context, read_from = BACKGROUND.wait(self._read(context))
            sources = sources or read_from
        question = _question("", context, None, sources=tuple(sources))
        return SessionSetup(self._parts, question, Continuation(RunId("")), budget)

    def estimate(self, context: PlainValue) -> Estimate:
        """The size, calls, tokens and dollars to expect of a run over this input, from low to high. Spends nothing."""
        return self._parts.estimate(plain_input(context))

    def report_html(self, run_id: str = "last") -> str:
        """A recorded run as one self-contained HTML page: its tree, its timeline, its cells and calls.

        Raises:
            UnknownRunError: the store has no such run.
        """
        store = self._parts.records.need_store()
        info = store.find(run_id)
        events = store.events(info.id, lenient=True)
        measurement = recorded_measurement(store, info, events)
        return page_of_events(info.id, events, measurement)

    async def execute(
        self,
        query: str | None,
        context: PlainValue = None,
        *,
        form: AnswerForm | None = None,
        depth: int = 0,
        sinks: Sequence[SinkLike] = (),
    ) -> Result:
        """Answers on the current event loop, which must be the engine's: for models and other code that runs there."""
        sources: tuple[str, ...] = ()
        if names_files(context):
            context, sources = await self._read(context)
        asked = partial(_question, query, context, form, sources=sources, depth=depth)
        is_large = isinstance(context, Documents) and len(context) > LIGHT_ITEMS
        question = await asyncio.to_thread(asked) if is_large else asked()
        return await self.prepare(question, sinks).answer()

    async def _read(self, files: Any) -> tuple[PlainValue, tuple[str, ...]]:
        """The documents of these files, or the only one of them, open, if it is a large text; and the files' names."""
        # Converters of all formats take as long to load as the rest of the package, and most runs have none.
        large_text: Any = import_module("rlm.documents.large_text")
        named = [files] if isinstance(files, os.PathLike) else list(files)
        opened = await asyncio.to_thread(large_text.open_large_text, named)
        if opened is not None:
            return opened, tuple(map(os.fspath, named))
        reading: Any = import_module("rlm.runtime.reading")
        documents = await reading.aload(files, sandbox=self.options.sandbox)
        return documents, documents.sources

    def prepare(self, question: Question, sinks: Sequence[SinkLike] = ()) -> Run:
        """A new run, not started."""
        return self._parts.new_run(question, sinks)

    @property
    def can_resume(self) -> bool:
        """True if the runs of this object are stored with their texts, beyond the end of the process."""
        return self._parts.records.keep_texts and self._parts.records.is_kept

    @property
    def model_names(self) -> tuple[str, ...]:
        """The full names of the models, by depth."""
        return tuple(model.name for model in self._parts.models)

    def close(self) -> None:
        """Releases the models opened by name. Their connections and memory are freed with the last object that uses them."""
        BACKGROUND.wait(self._parts.close())

    async def aclose(self) -> None:
        """Closes this object, from any event loop. See ``close``."""
        await BACKGROUND.run(self._parts.close())

    if not TYPE_CHECKING:  # type checkers report unknown attributes themselves

        def __getattr__(self, name: str) -> object:
            raise missing_attribute("RLM", name, FOREIGN_METHODS)

    def __enter__(self) -> RLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


RLM.__doc__ = (RLM.__doc__ or "").replace(
    "    An object can", f"    Args:\n{describe_options(Options)}\n\n    An object can", 1
)


@overload
def ask(
    query: str,
    context: PlainValue = None,
    model: str | Model | None = None,
    *,
    schema: PlainSchema = None,
    **options: Unpack[OptionsDict],
) -> Result: ...
@overload
def ask(
    query: str,
    context: PlainValue = None,
    model: str | Model | None = None,
    *,
    schema: TypeForm[T],
    **options: Unpack[OptionsDict],
) -> Result[T]: ...
def ask(
    query: str,
    context: PlainValue = None,
    model: str | Model | None = None,
    *,
    schema: Any = None,
    **options: Unpack[OptionsDict],
) -> Result:
    """Answers one question: ``rlm.ask("Who is the captain?", text, "gpt-4o")``. Options as for ``RLM``."""
    with RLM(model, **options) as engine:
        return engine.run(query, context, schema=schema)


def _sinks(on_event: SinkLike | None) -> tuple[SinkLike, ...]:
    return () if on_event is None else (on_event,)


def _question(
    query: str | None, context: PlainValue, form: AnswerForm | None, *, sources: tuple[str, ...] = (), depth: int = 0
) -> Question:
    if isinstance(context, Documents):
        return Question.of(
            query,
            context.context,
            sources=sources or context.sources,
            depth=depth,
            side_table=context.side_table(),
            form=form,
        )
    return Question.of(query, context, sources=sources, depth=depth, form=form)
