"""A store in the memory of this process: for tests, and for programs that resume and replay within one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace

import orjson

from rlm.core.errors import StoreError
from rlm.core.events import AnyEvent
from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.core.redaction import redactor
from rlm.core.runs import ContextInfo, RunInfo
from rlm.core.values import slotted
from rlm.store.codec import Encoder
from rlm.store.forms import DumpValue, LoadValue
from rlm.store.location import MEMORY
from rlm.store.reading import (
    change_options,
    choose_run,
    decode_events,
    load_context,
    no_run,
    read_run_id,
    resumed_elsewhere,
)
from rlm.store.rows import RunRow


@slotted
class StoredRun:
    """A run with its lines, and the texts that they refer to by hash."""

    info: RunInfo
    lines: list[bytes] = field(default_factory=list)
    texts: dict[bytes, bytes] = field(default_factory=dict)


class MemoryStore:
    """Implements ``rlm.ports.Store``. Events are encoded as for a file, so that both behave alike."""

    place = MEMORY

    def __init__(self, dump: DumpValue, load: LoadValue) -> None:
        self._dump = dump
        self._load = load
        self._lock = threading.RLock()
        self._runs: dict[RunId, StoredRun] = {}  # the oldest first
        self._answers: dict[bytes, str] = {}

    def begin_run(
        self,
        run: RunId,
        question: str,
        options: Mapping[str, JsonValue],
        context: ContextInfo,
        *,
        keep_texts: bool = True,
        secrets: Sequence[str] = (),
    ) -> MemoryJournal:
        redact = redactor(secrets)
        row = RunRow.of(run, question, options, context, redact, keep_texts=keep_texts)
        with self._lock:
            stored = self._runs[run] = StoredRun(replace(row.info(), is_running=True))
        return MemoryJournal(self, stored, Encoder(self._dump, keep_texts=keep_texts), redact)

    def resume_run(
        self,
        run: RunId,
        options: Mapping[str, JsonValue] | None = None,
        *,
        revision: int | None = None,
        secrets: Sequence[str] = (),
    ) -> MemoryJournal:
        with self._lock:
            stored = self._stored(run)
            if stored.info.is_running:
                raise StoreError(f"run {run} is being executed by this process: stop it first")
            if revision is not None and revision != len(stored.lines):
                raise resumed_elsewhere(run)
            redact = redactor(secrets)
            now = orjson.loads(change_options(stored.info.options, options, redact))
            stored.info = replace(stored.info, status=None, is_running=True, touched=time.time(), options=now)
        return MemoryJournal(self, stored, Encoder(self._dump, keep_texts=stored.info.texts_kept), redact)

    def note_context(self, run: RunId, context: ContextInfo) -> None:
        with self._lock:
            if (stored := self._runs.get(run)) is not None:
                stored.info = replace(stored.info, context=replace(context, data=stored.info.context.data))

    def runs(self) -> list[RunInfo]:
        with self._lock:
            return [stored.info for stored in reversed(self._runs.values())]

    def find(self, run: str) -> RunInfo:
        run = read_run_id(run)
        run, infos = read_run_id(run), self.runs()
        matches = infos[:1] if run == "last" else [info for info in infos if info.id.startswith(run)]
        return choose_run(self.place, run, matches)

    def revision(self, run: RunId) -> int:
        with self._lock:
            return len(self._runs[run].lines) if run in self._runs else 0

    def events(self, run: RunId, *, lenient: bool = False) -> list[AnyEvent]:
        with self._lock:
            stored = self._stored(run)
            lines, texts = list(stored.lines), dict(stored.texts)
        return decode_events(run, lines, texts.get, self._load, lenient=lenient)

    def context(self, info: RunInfo) -> object:
        return load_context(info, self._load)

    def delete(self, runs: Sequence[RunId]) -> None:
        with self._lock:
            for run in runs:
                self._runs.pop(run, None)

    def size(self) -> int:
        with self._lock:
            return sum(sum(map(len, (*run.lines, *run.texts.values()))) for run in self._runs.values())

    def cached_answer(self, key: bytes) -> str | None:
        return self._answers.get(key)

    def cache_answer(self, key: bytes, reply: str) -> None:
        self._answers[key] = reply

    def abandon(self) -> None:
        """In a forked child: its copy of the memory is its own."""

    def close(self) -> None:
        """Nothing to release."""

    def _stored(self, run: RunId) -> StoredRun:
        if run not in self._runs:
            raise no_run(self.place, run)
        return self._runs[run]

    def add_line(self, stored: StoredRun, line: bytes, texts: Mapping[bytes, bytes]) -> None:
        with self._lock:
            stored.lines.append(line)
            stored.texts |= texts

    def end_run(self, stored: StoredRun, status: str | None) -> None:
        with self._lock:
            stored.info = replace(stored.info, status=status, is_running=False, touched=time.time())


class MemoryJournal:
    """Implements ``rlm.ports.Journal`` for one run."""

    def __init__(
        self, store: MemoryStore, stored: StoredRun, encoder: Encoder, redact: Callable[[bytes], bytes]
    ) -> None:
        self._store = store
        self._stored = stored
        self._encoder = encoder
        self._redact = redact
        self._pending: deque[AnyEvent] = deque()
        self.append: Callable[[AnyEvent], None] = self._pending.append

    def flush(self) -> None:
        if not self._pending:
            return
        line = self._redact(self._encoder.encode(self._pending))
        texts = {digest: self._redact(data) for digest, data in self._encoder.take_texts().items()}
        self._store.add_line(self._stored, line, texts)

    def end(self) -> None:
        self.flush()
        self._store.end_run(self._stored, self._encoder.status)
