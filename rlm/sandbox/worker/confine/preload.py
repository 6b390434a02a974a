"""Imports modules once, in the zygote, so that all REPLs share them.

This has two reasons: speed and code. Once a REPL's filter is installed, no new code can be mapped. So every extension module
that a computation can need is loaded here, including those that Python modules import at first use.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator

_COMMON = """
    __future__ abc argparse array ast asyncio base64 binascii bisect builtins calendar cmath codecs collections colorsys
    concurrent.futures.thread configparser contextlib contextvars copy csv ctypes dataclasses datetime decimal difflib dis
    email.message email.parser enum errno fnmatch fractions functools gc glob graphlib gzip hashlib heapq hmac html
    html.entities html.parser http.client inspect io ipaddress itertools json keyword linecache locale logging math
    mimetypes multiprocessing.pool numbers opcode operator os pathlib pickle platform pprint pyexpat queue quopri random re
    reprlib resource sched secrets select selectors shlex shutil signal socket sqlite3 ssl stat statistics string
    string.templatelib stringprep struct subprocess sys tarfile tempfile textwrap threading time timeit token tokenize
    tomllib traceback types typing unicodedata urllib.error urllib.parse urllib.request uuid warnings weakref
    xml.dom.minidom xml.etree.ElementTree xml.sax.handler zipfile zlib zoneinfo bz2 lzma _strptime cProfile
    encodings.ascii encodings.cp1252 encodings.cp437 encodings.cp850 encodings.idna encodings.latin_1 encodings.mac_roman
    encodings.punycode encodings.raw_unicode_escape encodings.rot_13 encodings.unicode_escape encodings.utf_16
    encodings.utf_16_be encodings.utf_16_le encodings.utf_32 encodings.utf_8_sig encodings.hex_codec
    encodings.base64_codec encodings.iso8859_15 encodings.shift_jis encodings.gbk encodings.gb18030 encodings.big5
    encodings.euc_jp encodings.euc_kr
""".split()
"""Modules that most cells need; nine of ten import nothing more. Missing ones differ by version and do not matter."""

_NOT_COMPUTING = (
    "_test",
    "_xx",
    "xx",
    "_curses",
    "_tkinter",
    "readline",
    "nis",
    "spwd",
    "ossaudiodev",
    "_crypt",
    "_dbm",
)
_NOT_LIBRARY = {
    "antigravity",
    "this",
    "idlelib",
    "turtle",
    "turtledemo",
    "tkinter",
    "lib2to3",
    "test",
    "ensurepip",
    "venv",
}


_WITHOUT_THREADS = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # the allocator of pyarrow
}
"""Variables that stop libraries from starting threads at import. Threads do not survive a fork, and prevent new namespaces."""


class MissingPackageError(Exception):
    """A configured package cannot be imported, or not in a process that forks."""


def import_library(*, everything: bool) -> None:
    """Imports the common modules and all extension modules for computing. ``everything`` adds the rest and all codecs."""
    names = [*_COMMON, *_extension_modules()]
    if everything:
        names += sorted(sys.stdlib_module_names - _NOT_LIBRARY)
        names += [f"encodings.{name}" for name in _codecs()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated modules warn, but no user chose them here
        for name in names:
            if not name.startswith(_NOT_COMPUTING):
                with contextlib.suppress(ImportError, AttributeError):
                    importlib.import_module(name)


def import_packages(names: Iterable[str], folders: Iterable[str], *, everything: bool) -> list[str]:
    """Imports the requested packages from the given folders.

    ``everything`` imports all their modules, because none can be read later. Otherwise only those with compiled code.

    Returns:
        Their files and folders, which must stay readable.

    Raises:
        MissingPackageError: a package cannot be imported; gives the reason.
    """
    wanted = list(names)
    if not wanted:
        return []
    before, path = set(sys.modules), list(sys.path)
    os.environ.update(_WITHOUT_THREADS)
    sys.path += [folder for folder in folders if folder not in path]
    for name in wanted:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise MissingPackageError(f"{name}: {type(error).__name__}: {error}") from error
        _import_modules_of(name, (".so", ".py") if everything else (".so",))
    os.environ.clear()
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise MissingPackageError(
            f"{', '.join(wanted)}: importing them starts {threads - 1} threads, which do not survive a fork; leave them out"
        )
    sys.path[:] = path  # other packages in the same folders are not available to cells
    tops = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
    return sorted({place for top in tops for place in _places(top)})


def reseed() -> None:
    """Reseeds numpy's old generator, so that siblings draw different numbers. ``random`` does this by itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _extension_modules() -> Iterator[str]:
    folder = sysconfig.get_config_var("DESTSHARED") or ""
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder):
            yield entry.partition(".")[0]


def _codecs() -> Iterator[str]:
    import_path = importlib.import_module("encodings").__path__[0]
    for entry in os.listdir(import_path):
        name, _, suffix = entry.partition(".")
        if suffix == "py" and name not in {"mbcs", "oem", "__init__", "_win_cp_codecs"}:
            yield name


def _import_modules_of(package: str, endings: tuple[str, ...]) -> None:
    """Imports submodules of a package, because numpy and pandas import some of them at first use only."""
    for folder in getattr(sys.modules[package], "__path__", ()):
        for place, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if name not in {"test", "tests", "testing", "__pycache__"}]
            inner = os.path.relpath(place, folder)
            prefix = package if inner == "." else package + "." + inner.replace(os.sep, ".")
            for file in files:
                if file.endswith(endings) and not file.startswith(("_test", "test", "conftest", "setup", "__")):
                    with contextlib.suppress(Exception), warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        importlib.import_module(f"{prefix}.{file.partition('.')[0]}")


def _places(top: str) -> Iterator[str]:
    module = sys.modules.get(top)
    folders = list(getattr(module, "__path__", ()))
    yield from folders
    origin = getattr(module, "__file__", None)
    if not folders and isinstance(origin, str):
        yield origin
