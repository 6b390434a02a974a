"""Ignore rules of folders: ``.gitignore`` and ``.ignore`` files, nested as git reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

NAMES = (".gitignore", ".ignore")
_MAX_RULE_BYTES = 1_000_000


class IgnoreRules:
    """Rules in force in one folder: its own and those of the folders above it.

    A rule of a deeper folder overrides one of a folder above; within one file the last match decides.
    """

    def __init__(self, specs: Sequence[tuple[Path, GitIgnoreSpec]] = ()) -> None:
        self._specs = tuple(specs)

    @classmethod
    def above(cls, folder: Path) -> IgnoreRules:
        """Rules of the folders between ``folder`` and the root of its git repository, if it lies in one."""
        folder = folder.resolve()
        chain = [folder, *folder.parents]
        root = next((at for at, place in enumerate(chain) if (place / ".git").exists()), None)
        if root is None:
            return cls()
        rules = cls(_read(chain[root], chain[root] / ".git" / "info" / "exclude"))
        for place in reversed(chain[1 : root + 1]):
            rules = rules.enter(place)
        return rules

    def enter(self, folder: Path) -> IgnoreRules:
        """Rules in force inside ``folder``."""
        specs = [spec for name in NAMES for spec in _read(folder, folder / name)]
        return IgnoreRules((*self._specs, *specs)) if specs else self

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        for base, spec in reversed(self._specs):
            try:
                relative = path.relative_to(base).as_posix()
            except ValueError:
                continue
            verdict = spec.check_file(relative + "/" if is_folder else relative).include
            if verdict is not None:
                return verdict
        return False


class NameFilter:
    """``include`` and ``exclude`` patterns in gitignore syntax, matched against paths relative to the source."""

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = GitIgnoreSpec.from_lines(include) if include else None
        self._exclude = GitIgnoreSpec.from_lines(exclude) if exclude else None

    def accepts(self, relative: str) -> bool:
        if self._exclude is not None and self._exclude.match_file(relative):
            return False
        return self._include is None or self._include.match_file(relative)


def _read(base: Path, file: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_RULE_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    try:
        return [(base, GitIgnoreSpec.from_lines(text.splitlines()))]
    except ValueError:
        return []
