"""Journals of runs: the stores of this process, how a run's journal is opened, and the facts that a resume needs.

It connects stores to the engine, and must not know how a run is executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from rlm.core.cells import PlainValue
from rlm.core.errors import IncompleteRecordError, StoreError, UnknownRunError
from rlm.core.events import AnyEvent, RunStarted
from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.core.question import Question
from rlm.core.redaction import SECRETS
from rlm.core.runs import MAX_CONTEXT_BYTES, ContextInfo, RunInfo
from rlm.core.sizes import exceeds, has_many_items
from rlm.core.values import frozen, slotted
from rlm.log import get_logger
from rlm.ports import Journal, Store
from rlm.runtime.loop import BACKGROUND
from rlm.sandbox.worker.wire.values import NotPlain, dump, load
from rlm.store.digests import digest_context
from rlm.store.location import DEFAULT_STORE as DEFAULT_STORE
from rlm.store.location import MEMORY, default_location
from rlm.store.memory import MemoryStore
from rlm.store.migrations import NoStoreError
from rlm.store.store import SqliteStore

logger = get_logger(__name__)

DIGEST_DELAY_S = 1.0


MAX_QUESTIONS = 10_000
"""Questions of one session in a store. A record that names more is damaged, or names itself."""


class Stores:
    """The stores of this process, each opened once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Store] = {}
        self._parents: list[Store] = []

    def open(self, place: str | Path, *, create: bool = True) -> Store:
        """The store of this name. Without ``create``, a file that does not exist raises NoStoreError.

        Raises:
            StoreError: it cannot be opened.
        """
        try:
            # Independent of its spelling and of the current folder.
            name = MEMORY if str(place) == MEMORY else os.path.realpath(place)
        except ValueError as error:
            raise StoreError(f"{str(place)!r} cannot be the path of a store: {error}") from error
        with self._lock:
            if name not in self._open:
                self._open[name] = (
                    MemoryStore(dump, load) if name == MEMORY else SqliteStore(name, dump, load, create=create)
                )
            return self._open[name]

    def forget(self) -> None:
        """Starts without stores in a forked child. The parent's connections are neither used nor closed."""
        self._lock = threading.Lock()
        for store in self._open.values():
            store.abandon()
        self._parents += self._open.values()
        self._open = {}

    async def aclose(self) -> None:
        """Closes all stores at the end of the process."""
        with self._lock:
            stores, self._open = list(self._open.values()), {}
        for store in stores:
            store.close()


STORES = Stores()
BACKGROUND.at_end(STORES.aclose)
os.register_at_fork(after_in_child=STORES.forget)


@frozen
class RecordedRun:
    """A stored run. ``revision`` is that of the store before the events were read."""

    info: RunInfo
    events: Sequence[AnyEvent]
    context: PlainValue
    revision: int


@slotted
class RunStore:
    """The store of one ``RLM`` object, and what it writes there.

    Attributes:
        place: a path, "memory", "default", or None for no store.
        keep_texts: False stores hashes and numbers only; such a run cannot be resumed.
    """

    place: str | Path | None = DEFAULT_STORE
    keep_texts: bool = True
    _warned: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Resolves a relative path against the current folder."""
        if isinstance(self.place, str):
            self.place = str.__str__(self.place)
        if self.place is not None and self.place not in (DEFAULT_STORE, MEMORY):
            self.place = Path(self.place).expanduser().absolute()

    def store(self) -> Store | None:
        """The store, or None if none was chosen.

        Raises:
            StoreError: the store cannot be opened.
        """
        place = self._where()
        return None if place is None else STORES.open(place)

    def _where(self) -> str | Path | None:
        return default_location() if self.place == DEFAULT_STORE else self.place

    @property
    def is_kept(self) -> bool:
        """True if runs are stored beyond the end of this process."""
        return not self._warned and self._where() not in (None, MEMORY)

    def need_store(self) -> Store:
        """The store, to look at. It is not created: a default store that does not exist has no runs.

        Raises:
            StoreError: there is no store, or it cannot be read.
        """
        place = self._where()
        if place is None:
            raise StoreError("no store is in use (store=None, or RLM_STORE=none), so no run is on record")
        try:
            return STORES.open(place, create=False)
        except NoStoreError:
            if self.place != DEFAULT_STORE:
                raise
            return MemoryStore(dump, load)

    def warn(self, error: StoreError) -> None:
        """Logs once that a run is not stored."""
        if not self._warned:
            logger.warning("the run is not stored, and continues: %s", error)
        self._warned = True

    async def recall(self, run: str, context: PlainValue = None) -> RecordedRun:
        """A stored run. ``context`` is needed if it was too large to store.

        Raises:
            UnknownRunError: there is no such run.
            IncompleteRecordError: its texts were not stored, or ``context`` is not the same.
        """
        store = self.need_store()
        info = await asyncio.to_thread(store.find, run)
        lines = await asyncio.to_thread(store.revision, info.id)
        events = await asyncio.to_thread(store.events, info.id)
        if context is None:
            context = await asyncio.to_thread(store.context, info)
        else:
            await asyncio.to_thread(check_context, info, context)
        return RecordedRun(info, events, context, lines)

    def recall_session(self, run: str) -> list[tuple[RunId, Sequence[AnyEvent]]]:
        """The events of a recorded question and of all questions before it in its session, the first question first.

        Raises:
            IncompleteRecordError: one of them is not in the store, or they are too many.
        """
        store, questions, seen = self.need_store(), list[tuple[RunId, Sequence[AnyEvent]]](), set[str]()
        while run:
            if run in seen or len(seen) >= MAX_QUESTIONS:
                raise IncompleteRecordError(f"the session of run {run} has no first question: its record is damaged")
            seen.add(run)
            try:
                events = store.events(RunId(run))
            except UnknownRunError:
                raise IncompleteRecordError(
                    f"run {run}, an earlier question of this session, is not in the store any more"
                ) from None
            questions.append((RunId(run), events))
            run = continued_run(events)
        return questions[::-1]


def continued_run(events: Sequence[AnyEvent]) -> str:
    """The run of the question before, if this one is a later question of a session; empty otherwise."""
    return next((event.continues for event in events if isinstance(event, RunStarted)), "")


class StoreJournalOpener:
    """Implements ``rlm.ports.JournalOpener`` for a new run, or for one that is resumed (``past``)."""

    def __init__(
        self,
        records: RunStore,
        run: RunId,
        options: Mapping[str, JsonValue],
        *,
        past: RecordedRun | None = None,
    ) -> None:
        self._records = records
        self._run = run
        self._options = options
        self._past = past

    async def begin(self, question: Question) -> Journal | None:
        """The run's journal. If the default store fails, the run continues without one."""
        records = self._records
        try:
            store = records.store()
            if store is None:
                return None
            if self._past is not None:
                return await asyncio.to_thread(
                    store.resume_run, self._run, self._options, revision=self._past.revision, secrets=SECRETS.texts
                )
            info, large = self._describe(store, question)
            journal = store.begin_run(
                self._run, question.query, self._options, info, keep_texts=records.keep_texts, secrets=SECRETS.texts
            )
        except StoreError as error:
            if records.place != DEFAULT_STORE or self._past is not None:
                raise
            records.warn(error)
            return None
        if large:  # hashing a gigabyte takes a second: beside the first call, not before it
            DIGESTS.note(store, self._run, question.context, info)
        return OptionalJournal(journal, records.warn) if records.place == DEFAULT_STORE else journal

    @staticmethod
    def _describe(store: Store, question: Question) -> tuple[ContextInfo, bool]:
        """The facts of the context: in a session, those of the question before, because it can take long to hash."""
        if question.continues:
            with contextlib.suppress(UnknownRunError):
                recorded = store.find(question.continues).context
                return recorded, not recorded.digest
        info, large = describe(question.context, question.sources)
        # The pixels of images are not in the data: a resumed run needs them again.
        return (replace(info, data=None) if question.images else info), large


class OptionalJournal:
    """The journal of a run that continues without it if the store fails."""

    def __init__(self, journal: Journal, warn: Callable[[StoreError], None]) -> None:
        self._journal = journal
        self._warn = warn
        self.append: Callable[[AnyEvent], None] = journal.append
        self.flush: Callable[[], None] = self._flush

    def _flush(self) -> None:
        try:
            self._journal.flush()
        except StoreError as error:
            self.append, self.flush = _drop, _skip
            self._warn(error)

    def end(self) -> None:
        self._journal.end()


def _drop(_: AnyEvent) -> None:
    """Events of a run whose store failed."""


def _skip() -> None:
    """Nothing to flush."""


def describe(context: PlainValue, sources: Sequence[str]) -> tuple[ContextInfo, bool]:
    """The facts of a context to store; and True if it is too large to be hashed at once."""
    info = ContextInfo(
        "",
        0,
        "",
        path="\n".join(source if "://" in source else str(Path(source).absolute()) for source in sources) or None,
        sources=tuple(sources),
        folder=str(Path.cwd()) if sources else "",
    )
    if exceeds(context, MAX_CONTEXT_BYTES):
        return replace(info, size=len(context) if isinstance(context, str | bytes) else 0), True
    size, digest = digest_context(context)
    info = replace(info, size=size, digest=digest)
    if size > MAX_CONTEXT_BYTES:
        return info, False
    try:
        kind, data = dump(context, strict=True)
    except NotPlain:  # the sandbox raises the error
        return info, False
    return replace(info, kind=kind, data=data), False


class Digests:
    """Hashes large contexts in threads of their own. Runs that share a context, as in a session, share the hash."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, list[tuple[Store, RunId, ContextInfo]]] = {}

    def note(self, store: Store, run: RunId, context: PlainValue, info: ContextInfo) -> None:
        """Adds size and hash of the context to the stored run, when they are known."""
        with self._lock:
            waiting = self._waiting.setdefault(id(context), [])
            waiting.append((store, run, info))
            if len(waiting) > 1:
                return
        # Many items are shared with REPLs at first, which needs the interpreter's lock as well.
        hashing = threading.Timer(DIGEST_DELAY_S if has_many_items(context) else 0.0, self._digest, (context,))
        hashing.daemon = True
        hashing.start()

    def _digest(self, context: PlainValue) -> None:
        try:
            size, digest = digest_context(context)
        finally:
            with self._lock:
                waiting = self._waiting.pop(id(context))  # the argument keeps the object, and so its id
        for store, run, info in waiting:
            with contextlib.suppress(StoreError):  # the store was closed, or the run deleted
                store.note_context(run, replace(info, size=size, digest=digest))


DIGESTS = Digests()


def check_context(info: RunInfo, context: PlainValue) -> None:
    """Raises IncompleteRecordError if this is not the context of the run."""
    size, digest = digest_context(context)
    recorded = info.context
    if (recorded.digest and digest != recorded.digest) or (not recorded.digest and size < recorded.size):
        raise IncompleteRecordError(
            f"this is not the context of run {info.id}: {size:,} bytes with hash {digest[:8]}, and it had {recorded.size:,} bytes"
            + (f" with hash {recorded.digest[:8]}" if recorded.digest else "")
        )
