"""Assembler for seccomp filters: turns rules on system calls into the kernel's array of BPF instructions.

It knows nothing about the policy. Arguments are compared by their low 32 bits, because the kernel itself reads no more of the
flags, commands and ids tested here.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .machine import Machine

KILL = 0x80000000
ALLOW = 0x7FFF0000
ASK = 0x7FC00000  # the holder of the filter's descriptor decides
_ERRNO = 0x00050000

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_BIT = 0x40000000


def errno_action(number: int) -> int:
    """The action that fails with this errno."""
    return _ERRNO | number


@dataclass(frozen=True, slots=True)
class Test:
    """A condition: ``argument & mask`` is one of ``values``."""

    __test__ = False  # not a test class of pytest

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Rule:
    """The treatment of one call: ``action`` if all tests hold (or there are none), and ``otherwise`` if not."""

    name: str
    tests: tuple[Test, ...] = ()
    action: int = ALLOW
    otherwise: int = errno_action(1)


@dataclass(slots=True)
class Instruction:
    """One ``struct sock_filter``."""

    code: int
    operand: int
    if_true: int = 0
    if_false: int = 0


class _SockFilter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class SockProgram(ctypes.Structure):
    """``struct sock_fprog``; ``keeps`` holds the array that it points to."""

    keeps: object
    _fields_ = (("length", ctypes.c_ushort), ("filters", ctypes.POINTER(_SockFilter)))


@dataclass(frozen=True)
class Program:
    """A finished filter."""

    instructions: tuple[Instruction, ...]

    @functools.cached_property
    def kernel_struct(self) -> SockProgram:
        """The filter as the kernel takes it. Built once in a zygote, and shared with all its children."""
        array = (_SockFilter * len(self.instructions))(
            *(_SockFilter(i.code, i.if_true, i.if_false, i.operand) for i in self.instructions)
        )
        program = SockProgram(len(self.instructions), ctypes.cast(array, ctypes.POINTER(_SockFilter)))
        program.keeps = array
        return program

    def substitute(self, placeholder: int, value: int) -> None:
        """Replaces a placeholder in the kernel's copy of the filter with a number that is known only now."""
        filters = self.kernel_struct.filters
        for position, instruction in enumerate(self.instructions):
            if instruction.code == _EQUAL and instruction.operand == placeholder:
                filters[position].k = value


def assemble(machine: Machine, rules: Iterable[Rule], *, default: int, unknown_from: int, unknown: int) -> Program:
    """Assembles a filter for one machine. Calls of another instruction set kill the process.

    Args:
        machine: source of the call numbers; rules for calls that it lacks are left out.
        rules: tried in order; put frequent calls first.
        default: the action for calls without a rule.
        unknown_from: first number of the calls that are unknown to the table.
        unknown: the action for those of them without a rule.
    """
    code = [
        Instruction(_LOAD, _ARCH_AT),
        Instruction(_EQUAL, machine.audit_arch, if_true=1),
        Instruction(_RETURN, KILL),
        Instruction(_LOAD, _NUMBER_AT),
    ]
    if machine.has_x32:
        code += [Instruction(_AT_LEAST, _X32_BIT, if_false=1), Instruction(_RETURN, KILL)]
    for rule in rules:
        number = machine.syscalls.get(rule.name)
        if number is not None:
            body = _body(rule)
            code += [Instruction(_EQUAL, number, if_false=len(body)), *body]
    code += [
        Instruction(_AT_LEAST, unknown_from, if_false=1),
        Instruction(_RETURN, unknown),
        Instruction(_RETURN, default),
    ]
    return Program(tuple(code))


def _body(rule: Rule) -> list[Instruction]:
    """Instructions to run once the call's number matched; they always return."""
    code: list[Instruction] = []
    for test in rule.tests:
        code += _value_test(test)
        code.append(Instruction(_RETURN, rule.otherwise))
    code.append(Instruction(_RETURN, rule.action))
    return code


def _value_test(test: Test) -> Sequence[Instruction]:
    """Instructions that skip the following ``return otherwise`` if one value matches."""
    code = [Instruction(_LOAD, _ARGUMENTS_AT + 8 * test.argument)]
    if test.mask != 0xFFFFFFFF:
        code.append(Instruction(_AND, test.mask))
    last = len(test.values) - 1
    code += [
        Instruction(_EQUAL, value & 0xFFFFFFFF, if_true=last - position + 1)
        for position, value in enumerate(test.values)
    ]
    return code
