"""Finds the files that sources name: files, folders, glob patterns, standard input, addresses, git repositories.

Nothing is parsed here. Unreadable files and broken links become reasons; they never stop their siblings.
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from rlm.core.errors import ConfigurationError, ContextError
from rlm.core.values import frozen, slotted
from rlm.documents.ignore import IgnoreRules, NameFilter
from rlm.documents.remote import RemoteFile, find_remote
from rlm.documents.values import LeftOut

Source: TypeAlias = "str | os.PathLike[str]"

STDIN = "-"
STDIN_NAMES = frozenset({STDIN, "/dev/stdin"})
STDIN_NAME = "standard input"
SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", ".git", ".hg", ".svn"})
_GLOB_SIGNS = frozenset("*?[")
_ADDRESS = ("http://", "https://")
_CLONE_SECONDS = 300


@frozen
class SourceFile:
    """A file to read: its name as the user knows it, and where its bytes are.

    Attributes:
        path: a file of this machine; None if ``data`` or ``address`` is given.
        data: bytes that are in memory already, for instance standard input.
        address: an URL to fetch.
        remote: a file of another file system.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    address: str = ""
    remote: RemoteFile | None = None


@slotted
class Listing:
    """All files of some sources, in order, and what was left out.

    A context manager: leaving it removes the temporary folders of cloned repositories.
    """

    files: list[SourceFile] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    ignored: int = 0
    clones: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self.clones.close()


def list_files(
    sources: Sequence[Source],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    no_ignore: bool = False,
    stdin: BinaryIO | None = None,
    folder: str = "",
) -> Listing:
    """Lists the files that sources name.

    Args:
        sources: files, folders, glob patterns, ``-``, ``http(s)://`` addresses, ``git+https://`` or ``*.git`` repositories,
            addresses of other file systems such as ``s3://``.
        include, exclude: patterns in gitignore syntax, for the files of folders and glob patterns.
        no_ignore: read what ``.gitignore`` and ``.ignore`` files name, and hidden files.
        stdin: standard input; None if nothing is piped in.
        folder: base of relative paths; the current folder when empty.

    Raises:
        ContextError: a source that is named does not exist or cannot be read.
        ConfigurationError: standard input is named and nothing is piped in.
    """
    listing = Listing()
    finder = _Finder(listing, NameFilter(include, exclude), no_ignore=no_ignore, base=folder)
    with contextlib.ExitStack() as undo:
        undo.enter_context(listing)
        _find_all(finder, listing, sources, stdin)
        undo.pop_all()
    return listing


def _find_all(finder: _Finder, listing: Listing, sources: Sequence[Source], stdin: BinaryIO | None) -> None:
    for source in dict.fromkeys(os.fspath(item) for item in sources):
        if source in STDIN_NAMES:
            listing.files.append(_stdin_file(stdin))
        elif source.startswith("git+") or (source.endswith(".git") and "://" in source):
            finder.clone(source)
        elif source.lower().startswith(_ADDRESS):
            listing.files.append(SourceFile(source, address=source))
        elif "://" in source:
            finder.add_remote(source)
        else:
            finder.add(source)


def _stdin_file(stdin: BinaryIO | None) -> SourceFile:
    if stdin is None:
        raise ConfigurationError("'-' means standard input, but nothing is piped into it")
    try:
        return SourceFile(STDIN_NAME, data=stdin.read())
    except OSError as error:
        raise ContextError(f"cannot read standard input: {error.strerror}") from error


class _Finder:
    def __init__(self, listing: Listing, names: NameFilter, *, no_ignore: bool, base: str) -> None:
        self._listing = listing
        self._names = names
        self._no_ignore = no_ignore
        self._base = base

    def add(self, source: str) -> None:
        path = Path(self._base, source)
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            if _GLOB_SIGNS & set(source) and self._add_pattern(source):
                return
            raise ContextError(_explain_missing(source, error)) from error
        if stat.S_ISDIR(mode):
            self._add_folder(path, source)
        elif stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
            self._listing.files.append(SourceFile(source, path))
        else:
            raise ContextError(f"cannot read {source}: it is a device or a socket")

    def _add_pattern(self, pattern: str) -> bool:
        matches = sorted(
            glob.glob(  # noqa: PTH207  pathlib cannot skip hidden files
                pattern, root_dir=self._base or None, recursive=True, include_hidden=self._no_ignore
            )
        )
        for name in matches:
            path = Path(self._base, name)
            if path.is_file() and self._names.accepts(Path(name).as_posix()):
                self._listing.files.append(SourceFile(name, path))
        return bool(matches)

    def add_remote(self, address: str) -> None:
        for name, relative, file in find_remote(address):
            hidden = any(part in SKIPPED_FOLDERS or part.startswith(".") for part in relative.split("/"))
            if relative and ((hidden and not self._no_ignore) or not self._names.accepts(relative)):
                self._listing.ignored += 1
            else:
                self._listing.files.append(SourceFile(name, remote=file))

    def clone(self, source: str) -> None:
        """Clones the newest state of a repository into a temporary folder and lists its files."""
        address = source.removeprefix("git+")
        target = self._listing.clones.enter_context(tempfile.TemporaryDirectory(prefix="rlm-clone-"))
        command = [
            "git",
            "-c",
            "protocol.ext.allow=never",
            "clone",
            "--quiet",
            "--depth",
            "1",
            "--",
            address,
            target,
        ]
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
        try:
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, timeout=_CLONE_SECONDS, env=environment, check=False
            )
        except FileNotFoundError:
            raise ContextError(f"cannot clone {address}: git is not installed") from None
        except subprocess.TimeoutExpired:
            raise ContextError(f"cannot clone {address}: no end within {_CLONE_SECONDS} s") from None
        if done.returncode:
            raise ContextError(f"cannot clone {address}: {done.stderr.strip()[:500]}")
        self._add_folder(Path(target), address.rstrip("/").rpartition("/")[2].removesuffix(".git"))

    def _add_folder(self, root: Path, shown: str) -> None:
        rules = IgnoreRules() if self._no_ignore else IgnoreRules.above(root)
        for relative, path in self._walk(root.resolve(), root.resolve(), rules):
            name = str(Path(shown, relative))
            if not self._names.accepts(Path(relative).as_posix()):
                self._listing.ignored += 1
            elif _is_regular(path):
                self._listing.files.append(SourceFile(name, path))
            else:
                self._listing.left_out.append(LeftOut(name, "a broken link, a device or a socket"))

    def _walk(self, folder: Path, root: Path, rules: IgnoreRules) -> Iterator[tuple[str, Path]]:
        """Files below a folder, in the order of their names. Links to folders are not followed: they can form a loop."""
        if not self._no_ignore:
            rules = rules.enter(folder)
        try:
            with os.scandir(folder) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError as error:
            self._listing.left_out.append(LeftOut(str(folder.relative_to(root)), f"cannot read: {error.strerror}"))
            return
        for entry in entries:
            path = folder / entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if self._is_skipped(entry.name, path, rules, is_folder=is_folder):
                self._listing.ignored += 1
            elif is_folder:
                yield from self._walk(path, root, rules)
            elif not entry.is_dir():
                yield str(path.relative_to(root)), path

    def _is_skipped(self, name: str, path: Path, rules: IgnoreRules, *, is_folder: bool) -> bool:
        if is_folder and name in SKIPPED_FOLDERS:
            return True
        if self._no_ignore:
            return False
        return name.startswith(".") or rules.ignores(path, is_folder=is_folder)


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _explain_missing(source: str, error: Exception) -> str:
    if _GLOB_SIGNS & set(source):
        return f"no file matches {source}"
    why = error.strerror if isinstance(error, OSError) else str(error)
    return f"cannot read {source}: {why}"
