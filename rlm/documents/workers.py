"""Conversions in confined workers: one for each file, or one for a group of small files."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, BinaryIO

from rlm.core.cells import Cell
from rlm.core.errors import ConfigurationError, SandboxError
from rlm.core.file_bytes import FileBytes
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import Subcall, SubcallOutcome
from rlm.core.values import frozen
from rlm.ports import Sandbox

CONVERSION_SECONDS = 120.0
GROUP_SECONDS = 10.0  # a group that takes longer is converted file by file
MEMORY_MB = 4096
VALUE_MB = 240  # of the text of one file
_PROGRAM = """
from rlm.documents.convert.dispatch import convert as _convert
from rlm.documents.convert.result import Limits as _Limits
_result = _convert(context, {name!r}, _Limits(text_chars={chars}), {encoding!r}, again=True)
"""
_GROUP_PROGRAM = """
from rlm.documents.convert.dispatch import convert_group as _convert
from rlm.documents.convert.result import Limits as _Limits
_result = _convert(context, {members!r}, _Limits(text_chars={chars}), {encoding!r})
"""
EXTRA_PACKAGES = ("pyarrow",)
"""Large parsers that few files need. A worker without them is started first."""
Result = Mapping[str, Any]


@frozen
class Workers:
    """Confined workers for the conversion of files.

    Attributes:
        open_sandbox: gives the sandbox whose workers have these packages besides the usual ones; called when a file needs one.
        text_chars, encoding: as in ``loader.Reading``.
    """

    open_sandbox: Callable[[Sequence[str]], Sandbox]
    text_chars: int
    encoding: str

    async def convert(self, opened: BinaryIO, name: str, size: int, packages: Sequence[str] = ()) -> Result:
        """Result for one file. A failure is a result that leaves the file out.

        A file that needs one of ``EXTRA_PACKAGES`` is converted again by a worker that has it.

        Raises:
            SandboxError: no worker can be started at all.
        """
        chars = max(self.text_chars, size)
        program = _PROGRAM.format(name=name, chars=chars, encoding=self.encoding)
        value, reason = await self._run(FileBytes(opened.fileno(), size), program, CONVERSION_SECONDS, packages)
        if reason or not isinstance(value, dict):
            return _failure(name, reason or "conversion failed: malformed result")
        missing = [package for package in EXTRA_PACKAGES if package in value.get("missing", ())]
        if missing and not packages and all(map(find_spec, missing)):
            return await self.convert(opened, name, size, missing)
        result: Result = value
        return result

    async def convert_group(self, files: Sequence[tuple[str, bytes]]) -> list[Result | None]:
        """Results for small files from one worker; None for each file that needs one of its own."""
        members, at = list[tuple[str, int, int]](), 0
        for name, data in files:
            members.append((name, at, at + len(data)))
            at += len(data)
        with tempfile.TemporaryFile() as packed:
            packed.writelines(data for _, data in files)
            packed.flush()
            program = _GROUP_PROGRAM.format(members=members, chars=self.text_chars, encoding=self.encoding)
            value, reason = await self._run(FileBytes(packed.fileno(), at), program, GROUP_SECONDS)
        if reason or not isinstance(value, list) or len(value) != len(files):
            return [None] * len(files)
        return [item if isinstance(item, dict) else None for item in value]

    async def _run(
        self, context: FileBytes, program: str, seconds: float, packages: Sequence[str] = ()
    ) -> tuple[Any, str]:
        """The program's result, and the reason if there is none."""
        limits = ReplLimits(cell_seconds=seconds, memory_mb=MEMORY_MB, value_mb=VALUE_MB)
        try:
            repl = await self.open_sandbox(packages).open(ReplSpec(context, can_call=False, limits=limits))
        except ConfigurationError as error:  # the package cannot be imported, or starts threads
            if not packages:
                raise
            return None, f"conversion failed: {error}"
        try:
            result = await repl.execute(Cell(1, 1, program), _refuse)
            if result.end == "timeout":
                return None, f"conversion took longer than {seconds:.0f} s"
            if result.end != "ok":
                return None, f"conversion failed: {result.error or result.end}"
            return await repl.read("_result"), ""
        except SandboxError as error:
            return None, f"conversion failed: {error}"
        finally:
            await asyncio.shield(repl.aclose())


def size_of(opened: BinaryIO) -> int:
    return os.fstat(opened.fileno()).st_size


async def _refuse(_call: Subcall) -> SubcallOutcome:
    raise SandboxError("a converter asked for a sub-call")


def _failure(name: str, reason: str) -> dict[str, Any]:
    return {"documents": [], "left_out": [[name, reason]], "transient": True}
