"""The system call policy of a REPL: allowed calls and their arguments, each with its reason.

Pure: tables in, rules out. Unlisted calls fail with EPERM, and calls too new for this table with ENOSYS, as on an older
kernel. Calls that no computation makes and that are steps of an attack kill the REPL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .bpf import ALLOW, ASK, KILL, Program, Rule, Test, assemble, errno_action
from .machine import FIRST_UNIFIED, Machine

EPERM, EACCES, ENOSYS = 1, 13, 38

_FREQUENT = """futex read write sendto recvfrom clock_gettime mprotect munmap brk epoll_wait epoll_pwait poll ppoll
    rt_sigprocmask rt_sigaction rt_sigreturn madvise mremap getrandom clock_nanosleep sched_yield""".split()

_FREE = """readv writev pread64 close fstat lseek sigaltstack select pselect6 epoll_create1 epoll_ctl eventfd2 pipe pipe2
    dup dup2 dup3 sendmsg recvmsg shutdown getsockname getpeername nanosleep clock_getres gettimeofday
    time times getrusage getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp
    uname sysinfo getcpu getrlimit set_robust_list set_tid_address rseq exit exit_group rt_sigpending rt_sigtimedwait
    setitimer getitimer alarm pause restart_syscall wait4 waitid membarrier getcwd umask fadvise64 arch_prctl""".split()
"""Calls that touch only the process itself and the descriptors passed to it.

``sendmsg`` can pass descriptors, but only to the process itself: it cannot name another socket, and the host reads without
room for descriptors.
"""

_LOOKING = "stat lstat newfstatat getdents64 statx".split()
"""Calls that imports need. They are harmless only with an empty root or Landlock: see ``files``.

Landlock does not cover ``stat``, and a filter cannot read paths. So at that level code can find names and sizes of files.
"""

_EXPLORING = "readlink readlinkat access faccessat faccessat2".split()
"""Further calls that Landlock does not cover and imports do not need. They are allowed with an empty root only."""

_NEVER = """ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp bpf perf_event_open userfaultfd
    io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key init_module finit_module delete_module
    kexec_load kexec_file_load reboot swapon swapoff mount umount2 pivot_root chroot open_by_handle_at move_mount open_tree
    fsopen fsconfig fsmount fspick mount_setattr unshare setns iopl ioperm modify_ldt memfd_secret""".split()

_PROT_EXEC = 0x4
_MAP_HUGETLB = 0x40000  # huge pages come from a pool of the whole machine
_O_TMPFILE_BIT = 0x400000
_O_PATH = 0x200000
_WRITING_FLAGS = 0x3 | 0x40 | 0x200 | 0x400 | _O_TMPFILE_BIT | _O_PATH  # access mode, CREAT, TRUNC, APPEND
_CLONE_THREAD = 0x10000
_CLONE_NAMESPACES = 0x7E020000  # all CLONE_NEW* that clone knows
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_BITS = 1, 1, 0xF
_SOCKET_OPTIONS = (3, 4, 30, 38, 39)  # SO_TYPE, SO_ERROR, SO_ACCEPTCONN, SO_PROTOCOL, SO_DOMAIN
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_FCNTLS = (0, 1, 2, 3, 4, 1030, 1032, 1034)  # DUPFD, flags of fd and file, DUPFD_CLOEXEC, GETPIPE_SZ, GET_SEALS
_PRCTLS = (15, 16)  # SET_NAME, GET_NAME


@dataclass(frozen=True, slots=True)
class Policy:
    """Differences between the levels.

    Attributes:
        files: allow reading files, because an empty root or Landlock restricts them.
        only_pid: the only process that signals can reach; None if namespaces confine them, and files, already.
        forks: leave forks to the gate (see ``gate``), which must then be in force too.
    """

    files: bool
    only_pid: int | None = None
    forks: bool = False


def gate(machine: Machine) -> Program:
    """A second filter, which asks the holder of its descriptor about every fork. Threads pass."""
    thread = Rule("clone", (Test(0, (_CLONE_THREAD,), mask=_CLONE_THREAD),), otherwise=ASK)
    return assemble(machine, (thread,), default=ALLOW, unknown_from=1 << 31, unknown=ALLOW)


def build(machine: Machine, policy: Policy) -> Program:
    """The filter for one REPL."""
    return assemble(
        machine, _rules(policy), default=errno_action(EPERM), unknown_from=FIRST_UNIFIED, unknown=errno_action(ENOSYS)
    )


def _rules(policy: Policy) -> Iterator[Rule]:
    yield from (Rule(name) for name in _FREQUENT if name != "mprotect")
    yield from _memory()
    yield from (Rule(name) for name in _FREE)
    yield from _descriptors()
    yield from _processes(policy)
    yield from _files(policy)
    yield from (Rule(name, action=KILL) for name in _NEVER)


def _memory() -> Iterator[Rule]:
    """Prevents any page that was ever writable from becoming code: all code was mapped before the filter."""
    not_executable = Test(2, (0,), mask=_PROT_EXEC)
    yield Rule("mmap", (not_executable, Test(3, (0,), mask=_MAP_HUGETLB)))
    yield Rule("mprotect", (not_executable,), otherwise=errno_action(EACCES))


def _descriptors() -> Iterator[Rule]:
    """Allows the socket pair that asyncio needs for its own wake-ups, but no socket that could name a peer.

    The buffers of a socket are memory of the kernel that no limit of the REPL counts, so their size cannot be raised. The
    option that names the process at the other end, the host, cannot be read.
    """
    yield Rule("socketpair", (Test(0, (_AF_UNIX,)), Test(1, (_SOCK_STREAM,), mask=_SOCK_TYPE_BITS)))
    yield Rule("getsockopt", (Test(2, _SOCKET_OPTIONS),))
    yield Rule("ioctl", (Test(1, _IOCTLS),))
    yield Rule("fcntl", (Test(1, _FCNTLS),))


def _processes(policy: Policy) -> Iterator[Rule]:
    """Allows threads and signals to itself, but no forks.

    ``clone3`` hides its flags behind a pointer; libraries fall back on ``clone``. A fork doubles the memory limit, which the
    kernel counts by process. So each fork is requested at the gate, and the host allows no second copy beside the first.
    """
    yield Rule("clone3", action=errno_action(ENOSYS))
    kinds = (_CLONE_THREAD, 0) if policy.forks else (_CLONE_THREAD,)
    yield Rule("clone", (Test(0, kinds, mask=_CLONE_THREAD | _CLONE_NAMESPACES),))
    target = () if policy.only_pid is None else (Test(0, (policy.only_pid,)),)
    yield Rule("kill", target)
    yield Rule("tgkill", target)
    itself = () if policy.only_pid is None else (Test(0, (0, policy.only_pid)),)
    yield Rule("getpgid", itself)  # otherwise it tells which processes exist
    yield Rule("getsid", itself)
    yield Rule("prctl", (Test(0, _PRCTLS),))
    yield Rule("prlimit64", (Test(0, (0,)),))  # its own limits, which can only be lowered once the hard limits are set
    yield Rule("sched_getaffinity", (Test(0, (0,)),))


def _files(policy: Policy) -> Iterator[Rule]:
    """Allows reads only. Nothing is writable anyway, but this error is clearer than the kernel's."""
    if not policy.files:
        return
    yield Rule("openat", (Test(2, (0,), mask=_WRITING_FLAGS),), otherwise=errno_action(EACCES))
    yield Rule("open", (Test(1, (0,), mask=_WRITING_FLAGS),), otherwise=errno_action(EACCES))
    yield from (Rule(name) for name in _LOOKING)
    if policy.only_pid is None:
        yield from (Rule(name) for name in _EXPLORING)
