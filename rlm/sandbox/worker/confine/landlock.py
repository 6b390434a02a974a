"""Landlock: restricts access of this process and its children to files, the network and other processes.

The version of the interface is read from the kernel at run time, and features that it lacks are left out. ``restrict``
returns the version in force.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from .kernel import call

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # number of file access rights that a version knows
_NETWORK_RIGHTS = 0b11  # bind and connect by TCP, since version 4
_SCOPES = 0b11  # abstract sockets and signals stay within the domain, since version 6


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The kernel's version of the interface; 0 if Landlock is missing or disabled."""
    try:
        return call("landlock_create_ruleset", 0, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict(readable: Iterable[str], *, known_version: int | None = None) -> int:
    """Allows only reads beneath ``readable``: no TCP, no signals and no abstract sockets beyond this domain.

    Returns:
        The version in force.

    Raises:
        OSError: Landlock is missing or refuses; ``no_new_privs`` must be set before.
    """
    abi = version() if known_version is None else known_version
    if abi == 0:
        raise OSError(38, "landlock: missing in this kernel, or disabled at boot")
    attributes = _RulesetAttributes(
        files=(1 << _FILE_RIGHTS_BY_VERSION.get(abi, 16)) - 1,
        network=_NETWORK_RIGHTS if abi >= 4 else 0,
        scopes=_SCOPES if abi >= 6 else 0,
    )
    ruleset = call("landlock_create_ruleset", ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    try:
        for path in readable:
            _allow_reading(ruleset, path)
        call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return abi


def separate() -> None:
    """Enters a new domain within the present one, so that a REPL's signals do not reach its siblings. Needs version 6."""
    attributes = _RulesetAttributes(files=0, network=0, scopes=_SCOPES)
    ruleset = call("landlock_create_ruleset", ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    try:
        call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_reading(ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a missing path needs no permission
    try:
        is_folder = os.path.isdir(path)
        rule = _PathBeneath(_READ_FILE | _READ_DIR if is_folder else _READ_FILE, descriptor)
        call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)
