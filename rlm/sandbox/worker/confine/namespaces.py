"""New namespaces and an empty root, in which a process can name nothing of the machine.

It works as an ordinary user. Root first becomes an ordinary user, because process limits do not bind the kernel's root.
After an escape, the process would then still have no rights.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from .kernel import call, mount

_NEW_MOUNTS = 0x00020000
_NEW_CGROUP, _NEW_UTS, _NEW_IPC = 0x02000000, 0x04000000, 0x08000000
NEW_USER, NEW_PID = 0x10000000, 0x20000000
_NEW_NET = 0x40000000
_ALL_BUT_MOUNTS = NEW_USER | NEW_PID | _NEW_NET | _NEW_IPC | _NEW_UTS | _NEW_CGROUP

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x1, 0x2, 0x4, 0x8  # as in mount and in mount_setattr
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_SEALED = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC

_UNPRIVILEGED_BASE = 0x7000_0000  # user ids that no account has; one for each zygote, so that runs share no counters
_NOBODY = 65534


def enter(readable: Sequence[str], hidden: Sequence[str]) -> None:
    """Enters all new namespaces. The pid namespace starts with the next fork, whose child must not call this module again.

    Args:
        readable: absolute paths of files and folders that stay visible, read-only, at their own paths.
        hidden: folders within them that appear empty.

    Raises:
        OSError: this machine does not allow one of the steps; the process must then end.
    """
    processes = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.geteuid() == 0:
            call("unshare", _NEW_MOUNTS)
            _empty_root(readable, hidden)
            become_unprivileged()
            user, group = os.geteuid(), os.getegid()
            call("unshare", _ALL_BUT_MOUNTS)
            _map_own_ids(processes, user, group)
        else:
            user, group = os.geteuid(), os.getegid()
            call("unshare", _ALL_BUT_MOUNTS | _NEW_MOUNTS)
            _map_own_ids(processes, user, group)
            _empty_root(readable, hidden)
    finally:
        os.close(processes)
    _rename_host()


def become_unprivileged() -> None:
    """Changes root's ids to ones without rights: an unused id, or 65534 on a machine that maps few ids."""
    for number in (_UNPRIVILEGED_BASE + os.getpid(), _NOBODY):
        try:
            os.setgroups([])
            os.setresgid(number, number, number)
            os.setresuid(number, number, number)
        except OSError:
            continue
        call("prctl", 4, 1, 0, 0, 0)  # changing ids made the process undumpable, and so its id maps unwritable
        return


def _map_own_ids(processes: int, user: int, group: int) -> None:
    """Maps the ids from before the new namespace, which have no name in it until this is done."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        descriptor = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=processes)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def _rename_host() -> None:
    name = b"sandbox"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sethostname(name, len(name))
    libc.setdomainname(name, len(name))


def _empty_root(readable: Sequence[str], hidden: Sequence[str]) -> None:
    """Replaces the root with a small tmpfs that holds only readable paths, and makes it read-only.

    The shortest path is mounted first, because a package below a hidden folder of the library must be mounted after that folder
    is hidden. All paths are opened before any is mounted, because a mount could cover them.
    """
    mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    sources = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in sorted(readable, key=len)]
    place = "/tmp"  # noqa: S108 - any folder that exists; only this process sees the mount
    mount("none", place, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=256k,mode=755")
    for path, descriptor in sources:
        _show(path, descriptor, place)
        for inner in hidden:
            if os.path.dirname(inner) == path and os.path.isdir(place + inner):
                mount("none", place + inner, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=64k,mode=755")
        os.close(descriptor)
    os.chdir(place)
    call("pivot_root", b".", b".")
    call("umount2", b".", _MNT_DETACH)
    os.chdir("/")
    _seal("/")


def _show(path: str, descriptor: int, place: str) -> None:
    """Mounts an open file or folder at its old path below the new root."""
    source, target = f"/proc/self/fd/{descriptor}", place + path
    if not os.path.lexists(target):
        is_folder = os.path.isdir(source)
        os.makedirs(target if is_folder else os.path.dirname(target), mode=0o755, exist_ok=True)
        if not is_folder:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    mount(source, target, "", _MS_BIND | _MS_REC)


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace"))


def _seal(path: str) -> None:
    attributes = _MountAttributes(set=_SEALED)
    where = os.fsencode(path)
    call("mount_setattr", _AT_FDCWD, where, _AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes))
