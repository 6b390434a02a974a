"""``load``: reads sources into documents, with the sandbox and the loop that the process shares."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from rlm.argument_types import check_type
from rlm.core.errors import ConfigurationError, ContextError
from rlm.documents.cache import ConversionCache
from rlm.documents.loader import OnProgress, Reading, read_files
from rlm.documents.plugins import find_ocr, load_converter
from rlm.documents.sources import Source, list_files
from rlm.documents.values import Documents
from rlm.ports import Sandbox
from rlm.runtime.loop import BACKGROUND
from rlm.runtime.resources import SHARED

CONVERTERS = "rlm.documents.convert.dispatch"
OPTIONAL_PACKAGES = ("pypdfium2", "python_calamine")
"""Parsers of the extra ``docs``, imported in the confined worker if they are installed."""


def load(
    *sources: Source | Iterable[Source],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    no_ignore: bool = False,
    encoding: str = "",
    converter: str = "",
    cache: bool = True,
    sandbox: str = "auto",
    stdin: BinaryIO | None = None,
    folder: str = "",
    on_progress: OnProgress | None = None,
) -> Documents:
    """Reads files, folders, glob patterns, archives, addresses and git repositories into documents.

    Parsers run in a confined worker process that gets one file as an open descriptor, and nothing else. A file that
    cannot be read is left out with its reason; it never stops the others.

    Args:
        sources: paths, patterns such as ``"reports/**/*.pdf"``, ``"-"``, ``http(s)://`` addresses, ``git+https://`` addresses.
        include, exclude: patterns in gitignore syntax that select files of folders and patterns.
        no_ignore: also read hidden files, and files that ``.gitignore`` or ``.ignore`` name.
        encoding: of text files whose encoding is not evident; it is detected by default.
        converter: an entry point of ``rlm.converters`` for all files that are not plain text. It runs in this process, outside
            the sandbox.
        cache: use and keep conversions by content hash among the user's cached files.
        sandbox: isolation of the parsers, as for ``RLM``.
        stdin: what ``"-"`` reads.
        folder: base of relative paths; the current folder by default.
        on_progress: called with the number of files read, of all files, and of files left out.

    Returns:
        The documents in the order of their sources, with everything that was left out.

    Raises:
        ContextError: a named source does not exist, or no document has text.
        ConfigurationError: ``"-"`` is named and ``stdin`` is None.
        SandboxUnavailableError: this machine offers no isolation for the parsers.
    """
    return BACKGROUND.wait(
        aload(
            *sources,
            include=include,
            exclude=exclude,
            no_ignore=no_ignore,
            encoding=encoding,
            converter=converter,
            cache=cache,
            sandbox=sandbox,
            stdin=stdin,
            folder=folder,
            on_progress=on_progress,
        )
    )


def _names_of(sources: Iterable[Source | Iterable[Source]]) -> list[Source]:
    """The sources, one by one.

    Raises:
        ConfigurationError: one is neither text, nor a path, nor several of them.
    """
    try:
        named = [item for source in sources for item in ([source] if isinstance(source, str | os.PathLike) else source)]
    except TypeError as error:
        raise ConfigurationError(f"sources must be text, paths, or lists of them: {error}") from None
    check_type("sources", named, Sequence[str | Path])
    return [str.__str__(item) if isinstance(item, str) else item for item in named]


async def aload(
    *sources: Source | Iterable[Source],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    no_ignore: bool = False,
    encoding: str = "",
    converter: str = "",
    cache: bool = True,
    sandbox: str = "auto",
    stdin: BinaryIO | None = None,
    folder: str = "",
    on_progress: OnProgress | None = None,
) -> Documents:
    """``load`` for coroutines on the engine's loop."""
    named = _names_of(sources)
    listing = await asyncio.to_thread(
        list_files, named, include=include, exclude=exclude, no_ignore=no_ignore, stdin=stdin, folder=folder
    )
    store = ConversionCache() if cache else None
    reading = Reading(
        encoding=encoding,
        cache=store,
        parallel=max(os.cpu_count() or 1, 2),
        converter=load_converter(converter) if converter else None,
        ocr=find_ocr(),
    )
    with listing:
        documents, left_out = await read_files(listing.files, partial(_open_sandbox, sandbox), reading, on_progress)
    if store is not None:
        await asyncio.to_thread(store.prune)
    names = tuple(dict.fromkeys(os.fspath(source) for source in named))
    if include or exclude or no_ignore:  # the files themselves, which need no filter when they are read again
        names = tuple(dict.fromkeys(document.path.partition("!/")[0] for document in documents))
    result = Documents(documents, [*listing.left_out, *left_out], ignored=listing.ignored, sources=names)
    if not any(document.text.strip() for document in result):
        raise ContextError(f"no text to ask about: {result.summary()}")
    return result


def _open_sandbox(name: str, extra_packages: Sequence[str] = ()) -> Sandbox:
    """The sandbox of the parsers. Packages that few files need are imported on demand."""
    packages = [package for package in OPTIONAL_PACKAGES if importlib.util.find_spec(package) is not None]
    return SHARED.sandbox(name, (CONVERTERS, *packages, *extra_packages))
