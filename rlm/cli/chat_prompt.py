"""The prompt of ``rlm chat``: history, completion, and several lines by Alt-Enter."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlm.store.location import data_folder
from rlm.views.escape import one_line

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History

HISTORY_FILE = "chat_history"


class ChatPrompt:
    """Reads lines from a terminal. ``words`` returns names to complete: variables and paths, which are untrusted text."""

    def __init__(self, commands: Sequence[str], words: Callable[[], Sequence[str]]) -> None:
        from prompt_toolkit import PromptSession  # noqa: PLC0415  only this command needs it
        from prompt_toolkit.completion import Completer  # noqa: PLC0415
        from prompt_toolkit.completion import Completion as Shown  # noqa: PLC0415

        class Names(Completer):
            def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
                word = document.get_word_before_cursor(WORD=True)
                names = commands if document.text.startswith("/") and " " not in document.text else words()
                for name in names:
                    if word and name.startswith(word) and name.isprintable():
                        yield Shown(name, start_position=-len(word), display=one_line(name, 60))

        self._session = PromptSession[str](
            "? ", history=_history(), completer=Names(), complete_while_typing=False, enable_history_search=True
        )

    def lines(self) -> Iterator[str]:
        """The lines that are typed, until Ctrl-D. Ctrl-C drops the present line."""
        while True:
            try:
                yield self._session.prompt()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return


def _history() -> History:
    """The history of earlier sessions, in a file that only its owner can read; in memory if that file cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory  # noqa: PLC0415  only this command needs it

    path = data_folder() / HISTORY_FILE
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        Path(path).chmod(0o600)
        return FileHistory(str(path))
    return InMemoryHistory()
