"""System call numbers of the supported machines. Generated from the kernel's own headers, then cut to those in use.

It knows no policy: ``policy.py`` decides which calls are allowed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

_X86_64 = """
read=0 write=1 readv=19 writev=20 pread64=17 close=3 fstat=5 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12 mremap=25
madvise=28 rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 sigaltstack=131 ioctl=16 poll=7 ppoll=271 select=23
pselect6=270 epoll_create1=291 epoll_ctl=233 epoll_wait=232 epoll_pwait=281 eventfd2=290 pipe=22 pipe2=293 dup=32
dup2=33 dup3=292 fcntl=72 socketpair=53 sendto=44 recvfrom=45 sendmsg=46 recvmsg=47 shutdown=48 getsockopt=55
setsockopt=54 getsockname=51 getpeername=52 futex=202 sched_yield=24 nanosleep=35 clock_nanosleep=230
clock_gettime=228 clock_getres=229 gettimeofday=96 time=201 times=100 getrusage=98 getrandom=318 getpid=39
gettid=186 getppid=110 getuid=102 geteuid=107 getgid=104 getegid=108 getresuid=118 getresgid=120 getgroups=115
getpgrp=111 getpgid=121 getsid=124 uname=63 sysinfo=99 getcpu=309 sched_getaffinity=204 getrlimit=97 prlimit64=302
set_robust_list=273 set_tid_address=218 rseq=334 exit=60 exit_group=231 clone=56 tgkill=234 kill=62
rt_sigpending=127 rt_sigtimedwait=128 setitimer=38 getitimer=36 alarm=37 pause=34 restart_syscall=219 wait4=61
waitid=247 membarrier=324 getcwd=79 umask=95 openat=257 open=2 stat=4 lstat=6 newfstatat=262 readlink=89
readlinkat=267 getdents64=217 access=21 faccessat=269 faccessat2=439 statx=332 fadvise64=221 prctl=157
arch_prctl=158 clone3=435 pidfd_open=434 close_range=436 unshare=272 setns=308 seccomp=317 capset=126
landlock_create_ruleset=444 landlock_add_rule=445 landlock_restrict_self=446 ptrace=101 process_vm_readv=310
process_vm_writev=311 process_madvise=440 pidfd_getfd=438 kcmp=312 bpf=321 perf_event_open=298 userfaultfd=323
io_uring_setup=425 io_uring_enter=426 io_uring_register=427 keyctl=250 add_key=248 request_key=249 init_module=175
finit_module=313 delete_module=176 kexec_load=246 kexec_file_load=320 reboot=169 swapon=167 swapoff=168 mount=165
umount2=166 pivot_root=155 chroot=161 open_by_handle_at=304 move_mount=429 open_tree=428 fsopen=430 fsconfig=431
fsmount=432 fspick=433 mount_setattr=442 iopl=172 ioperm=173 modify_ldt=154 memfd_secret=447
"""

_AARCH64 = """
read=63 write=64 readv=65 writev=66 pread64=67 close=57 fstat=80 lseek=62 mmap=222 mprotect=226 munmap=215 brk=214
mremap=216 madvise=233 rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 sigaltstack=132 ioctl=29 ppoll=73
pselect6=72 epoll_create1=20 epoll_ctl=21 epoll_pwait=22 eventfd2=19 pipe2=59 dup=23 dup3=24 fcntl=25 socketpair=199
sendto=206 recvfrom=207 sendmsg=211 recvmsg=212 shutdown=210 getsockopt=209 setsockopt=208 getsockname=204
getpeername=205 futex=98 sched_yield=124 nanosleep=101 clock_nanosleep=115 clock_gettime=113 clock_getres=114
gettimeofday=169 times=153 getrusage=165 getrandom=278 getpid=172 gettid=178 getppid=173 getuid=174 geteuid=175
getgid=176 getegid=177 getresuid=148 getresgid=150 getgroups=158 getpgid=155 getsid=156 uname=160 sysinfo=179
getcpu=168 sched_getaffinity=123 getrlimit=163 prlimit64=261 set_robust_list=99 set_tid_address=96 rseq=293 exit=93
exit_group=94 clone=220 tgkill=131 kill=129 rt_sigpending=136 rt_sigtimedwait=137 setitimer=103 getitimer=102
restart_syscall=128 wait4=260 waitid=95 membarrier=283 getcwd=17 umask=166 openat=56 newfstatat=79 readlinkat=78
getdents64=61 faccessat=48 faccessat2=439 statx=291 fadvise64=223 prctl=167 clone3=435 pidfd_open=434
close_range=436 unshare=97 setns=268 seccomp=277 capset=91 landlock_create_ruleset=444 landlock_add_rule=445
landlock_restrict_self=446 ptrace=117 process_vm_readv=270 process_vm_writev=271 process_madvise=440 pidfd_getfd=438
kcmp=272 bpf=280 perf_event_open=241 userfaultfd=282 io_uring_setup=425 io_uring_enter=426 io_uring_register=427
keyctl=219 add_key=217 request_key=218 init_module=105 finit_module=273 delete_module=106 kexec_load=104
kexec_file_load=294 reboot=142 swapon=224 swapoff=225 mount=40 umount2=39 pivot_root=41 chroot=51
open_by_handle_at=265 move_mount=429 open_tree=428 fsopen=430 fsconfig=431 fsmount=432 fspick=433 mount_setattr=442
memfd_secret=447
"""

FIRST_UNIFIED = 424
"""First number of the calls that are numbered alike on all machines.

Libraries probe for such calls. They take ENOSYS for an older kernel, but EPERM for an error.
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """One instruction set: its audit number, as seccomp reports it, and its system calls by name."""

    name: str
    audit_arch: int
    syscalls: Mapping[str, int]
    has_x32: bool = False


def _parse(table: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (entry.partition("=") for entry in table.split())}


X86_64 = Machine("x86_64", 0xC000003E, _parse(_X86_64), has_x32=True)
AARCH64 = Machine("aarch64", 0xC00000B7, _parse(_AARCH64))


def this_machine() -> Machine | None:
    """The machine that this process runs on; None without a table for it, in which case there is no filter either.

    None also for a 32-bit process on a 64-bit kernel, because its call numbers differ from those of the kernel's machine name.
    """
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return None
    return {"x86_64": X86_64, "aarch64": AARCH64}.get(os.uname().machine)
