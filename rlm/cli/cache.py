"""``rlm cache``: shows, empties and limits the cache of converted documents."""

from __future__ import annotations

import json
import re

from cyclopts import App

from rlm.cli.exits import Exit, complain
from rlm.cli.flags import JsonFlag
from rlm.cli.output import put
from rlm.documents.cache import ConversionCache
from rlm.views.escape import one_line

app = App(help="Show, empty and limit the cache of converted documents.", help_format="plaintext")
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,3})?)\s*(|[kmgt])(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@app.default
def cache(*, json_output: JsonFlag = False) -> int:
    """Show the folder, the entries, the size and the limit of the cache.

    Parameters
    ----------
    json_output
        Print one JSON object.
    """
    conversions = ConversionCache()
    entries, size = conversions.entries(), conversions.size_bytes()
    if json_output:
        facts = {
            "folder": str(conversions.folder),
            "entries": entries,
            "bytes": size,
            "limit_bytes": conversions.max_bytes,
        }
        put(json.dumps(facts) + "\n")
    else:
        count = "1 entry" if entries == 1 else f"{entries:,} entries"
        put(
            f"{one_line(str(conversions.folder), 500)}: {count}, {_megabytes(size)} of at most "
            f"{_megabytes(conversions.max_bytes)}\n"
        )
    return Exit.COMPLETE


@app.command
def clear() -> int:
    """Delete all entries. Documents are converted again when they are next read."""
    freed = ConversionCache().prune(0)
    put(f"{_megabytes(freed)} freed\n")
    return Exit.COMPLETE


@app.command
def limit(size: str, /) -> int:
    """Set the largest size of the cache, and delete the entries that were used longest ago beyond it.

    Parameters
    ----------
    size
        For instance 500MB or 2GB; 0 keeps nothing.
    """
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        complain(
            f"error: a size must be a number with kB, MB, GB or TB, for instance 500MB; got {one_line(size, 60)!r}"
        )
        return Exit.USAGE
    conversions = ConversionCache()
    try:
        conversions.set_limit(int(float(match[1]) * _UNITS[match[2].lower()]))
    except OSError as error:
        complain(f"error: cannot write to {one_line(str(conversions.folder), 300)}: {error.strerror}")
        return Exit.FAILED
    freed = conversions.prune()
    put(f"limit: {_megabytes(conversions.max_bytes)}; {_megabytes(freed)} freed\n")
    return Exit.COMPLETE


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
