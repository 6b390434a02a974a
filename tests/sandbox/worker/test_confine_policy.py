"""The filter, interpreted instruction by instruction: the outcome of each call on both machines."""

from __future__ import annotations

import pytest

from rlm.sandbox.worker.confine.bpf import ALLOW, KILL, Program, Rule, Test, assemble, errno_action
from rlm.sandbox.worker.confine.machine import AARCH64, X86_64, Machine
from rlm.sandbox.worker.confine.policy import Policy, build

EPERM, EACCES, ENOSYS = errno_action(1), errno_action(13), errno_action(38)
O_WRONLY, O_RDWR, O_CREAT, O_CLOEXEC, O_DIRECTORY = 1, 2, 0x40, 0x80000, 0x10000
THREAD = 0x3D0F00  # flags of the C library for a thread
FORK = 0x1200011


def outcome(program: Program, machine: Machine, number: int, *arguments: int, arch: int | None = None) -> int:
    """The kernel's decision, by a small interpreter of classic BPF over ``struct seccomp_data``."""
    words = [number, machine.audit_arch if arch is None else arch, 0, 0]
    for argument in (*arguments, *[0] * (6 - len(arguments))):
        words += [argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF]
    accumulator = position = 0
    while True:
        step = program.instructions[position]
        position += 1
        if step.code == 0x20:
            accumulator = words[step.operand // 4]
        elif step.code == 0x54:
            accumulator &= step.operand
        elif step.code == 0x06:
            return step.operand
        else:
            holds = accumulator == step.operand if step.code == 0x15 else accumulator >= step.operand
            position += step.if_true if holds else step.if_false


MACHINES = pytest.mark.parametrize("machine", [X86_64, AARCH64], ids=lambda machine: machine.name)
CASES: dict[str, tuple[str, tuple[int, ...], int]] = {
    "reads": ("read", (0, 0, 100), ALLOW),
    "maps memory": ("mmap", (0, 4096, 3, 0x22), ALLOW),
    "maps code": ("mmap", (0, 4096, 5, 0x22), EPERM),
    "maps code that can be written": ("mmap", (0, 4096, 7, 0x22), EPERM),
    "maps huge pages": ("mmap", (0, 4096, 3, 0x40022), EPERM),
    "makes memory code": ("mprotect", (0, 4096, 5), EACCES),
    "makes memory read-only": ("mprotect", (0, 4096, 1), ALLOW),
    "opens for reading": ("openat", (-100, 0, O_CLOEXEC), ALLOW),
    "opens a folder": ("openat", (-100, 0, O_CLOEXEC | O_DIRECTORY), ALLOW),
    "opens for writing": ("openat", (-100, 0, O_WRONLY), EACCES),
    "opens for both": ("openat", (-100, 0, O_RDWR), EACCES),
    "creates": ("openat", (-100, 0, O_CREAT), EACCES),
    "opens by path only": ("openat", (-100, 0, 0x200000), EACCES),
    "starts a thread": ("clone", (THREAD,), ALLOW),
    "forks": ("clone", (FORK,), EPERM),
    "starts a thread in a new namespace": ("clone", (THREAD | 0x10000000,), EPERM),
    "hides its flags": ("clone3", (0, 88), ENOSYS),
    "asks for its limits": ("prlimit64", (0, 9, 0), ALLOW),
    "asks for another's limits": ("prlimit64", (1234, 9, 0), EPERM),
    "makes a pair of sockets": ("socketpair", (1, 1 | 0x80000, 0), ALLOW),
    "asks for the type of a socket": ("getsockopt", (3, 1, 3, 0, 0), ALLOW),
    "asks who is at the other end": ("getsockopt", (3, 1, 17, 0, 0), EPERM),
    "enlarges the buffer of a socket": ("setsockopt", (3, 1, 7, 0, 4), EPERM),
    "makes a pair of datagram sockets": ("socketpair", (1, 2, 0), EPERM),
    "duplicates a descriptor": ("fcntl", (0, 1030, 3), ALLOW),
    "owns a descriptor's signals": ("fcntl", (0, 8, 1), EPERM),
    "names its thread": ("prctl", (15, 0), ALLOW),
    "clears its parent's signal": ("prctl", (1, 0), EPERM),
    "types into a terminal": ("ioctl", (0, 0x5412, 0), EPERM),
    "traces": ("ptrace", (16, 1), KILL),
    "loads a module": ("finit_module", (0,), KILL),
    "unshares": ("unshare", (0x10000000,), KILL),
}


@MACHINES
@pytest.mark.parametrize(("name", "arguments", "expected"), CASES.values(), ids=CASES)
def test_policy_of_each_call(machine: Machine, name: str, arguments: tuple[int, ...], expected: int) -> None:
    program = build(machine, Policy(files=True))
    assert outcome(program, machine, machine.syscalls[name], *arguments) == expected


@MACHINES
def test_high_bits_do_not_hide_low_ones(machine: Machine) -> None:
    program = build(machine, Policy(files=True))
    high = 1 << 40
    assert outcome(program, machine, machine.syscalls["openat"], -100, 0, high | O_WRONLY) == EACCES
    assert outcome(program, machine, machine.syscalls["clone"], high | FORK) == EPERM


@MACHINES
def test_other_instruction_set_kills_process(machine: Machine) -> None:
    program = build(machine, Policy(files=True))
    assert outcome(program, machine, machine.syscalls["read"], arch=0x40000003) == KILL


def test_x32_calls_kill_process() -> None:
    program = build(X86_64, Policy(files=True))
    assert outcome(program, X86_64, 0x40000000 | X86_64.syscalls["read"]) == KILL


@MACHINES
def test_unlisted_calls_fail_and_unknown_are_enosys(machine: Machine) -> None:
    program = build(machine, Policy(files=True))
    socket_call = 41 if machine is X86_64 else 198
    assert outcome(program, machine, socket_call) == EPERM
    assert outcome(program, machine, 425 + 5000) == ENOSYS


@MACHINES
def test_policy_without_files_opens_nothing(machine: Machine) -> None:
    program = build(machine, Policy(files=False))
    assert outcome(program, machine, machine.syscalls["openat"], -100, 0, 0) == EPERM
    assert outcome(program, machine, machine.syscalls["statx"], -100, 0, 0) in {EPERM, ENOSYS}


@MACHINES
def test_signals_reach_own_process_only(machine: Machine) -> None:
    program = build(machine, Policy(files=False, only_pid=4711))
    for name in ("kill", "tgkill"):
        assert outcome(program, machine, machine.syscalls[name], 4711, 9) == ALLOW
        for other in (0, 1, -1, 4712, -4711):
            assert outcome(program, machine, machine.syscalls[name], other, 9) == EPERM


def test_number_of_allowed_calls_is_bounded() -> None:
    """An added call must be a deliberate decision."""
    program = build(X86_64, Policy(files=True))
    free = [name for name, number in X86_64.syscalls.items() if outcome(program, X86_64, number) == ALLOW]
    assert len(free) <= 105


@MACHINES
def test_jumps_stay_within_program(machine: Machine) -> None:
    program = build(machine, Policy(files=True, only_pid=1))
    assert len(program.instructions) < 4096
    for position, step in enumerate(program.instructions):
        assert max(step.if_true, step.if_false) < 256
        assert position + max(step.if_true, step.if_false) + 1 <= len(program.instructions)


def test_rules_with_several_values_and_masks() -> None:
    rule = Rule("read", (Test(0, (1, 2, 3)), Test(1, (0x10,), mask=0xF0)), otherwise=errno_action(5))
    program = assemble(X86_64, [rule], default=KILL, unknown_from=424, unknown=KILL)
    assert [outcome(program, X86_64, 0, first, 0x1F) for first in range(5)] == [
        errno_action(5), ALLOW, ALLOW, ALLOW, errno_action(5)
    ]  # fmt: skip
    assert outcome(program, X86_64, 0, 2, 0x2F) == errno_action(5)


@MACHINES
def test_exploring_calls_need_an_empty_root(machine: Machine) -> None:
    with_namespaces = build(machine, Policy(files=True))
    with_landlock = build(machine, Policy(files=True, only_pid=4711))
    for name in ("readlinkat", "faccessat", "faccessat2"):
        number = machine.syscalls[name]
        assert outcome(with_namespaces, machine, number) == ALLOW
        assert outcome(with_landlock, machine, number) in {EPERM, ENOSYS}


@MACHINES
def test_other_processes_cannot_be_found_by_group(machine: Machine) -> None:
    program = build(machine, Policy(files=True, only_pid=4711))
    for name in ("getpgid", "getsid"):
        number = machine.syscalls[name]
        assert outcome(program, machine, number, 0) == ALLOW
        assert outcome(program, machine, number, 4711) == ALLOW
        assert outcome(program, machine, number, 1) == EPERM
