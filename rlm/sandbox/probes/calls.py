"""Numbers of the system calls that probes make directly. Generated from the kernel's own headers."""

from __future__ import annotations

import platform
from collections.abc import Mapping

_X86_64 = """
acct=163 add_key=248 bind=49 bpf=321 capset=126 chmod=90 chroot=161 clock_settime=227 clone=56 clone3=435 connect=42
execve=59 execveat=322 fanotify_init=300 fchmodat=268 finit_module=313 fork=57 ftruncate=77 getpriority=140
init_module=175 inotify_init1=294 io_uring_setup=425 ioperm=173 iopl=172 kcmp=312 kexec_load=246 keyctl=250 kill=62
landlock_create_ruleset=444 linkat=265 memfd_create=319 memfd_secret=447 mkdirat=258 mknodat=259 mlock=149
modify_ldt=154 mount=165 move_pages=279 mq_open=240 msgget=68 name_to_handle_at=303 open_by_handle_at=304
open_tree=428 openat2=437 perf_event_open=298 personality=135 pidfd_getfd=438 pidfd_open=434 pidfd_send_signal=424
pivot_root=155 prctl=157 prlimit64=302 process_madvise=440 process_vm_readv=310 process_vm_writev=311 ptrace=101
quotactl=179 reboot=169 renameat2=316 rt_sigqueueinfo=129 sched_setaffinity=203 sched_setscheduler=144 seccomp=317
semget=64 sendto=44 setdomainname=171 sethostname=170 setns=308 setpriority=141 setrlimit=160 setsid=112 setuid=105
shmat=30 shmget=29 signalfd4=289 socket=41 splice=275 swapon=167 symlinkat=266 sync=162 syslog=103 tgkill=234
timer_create=222 truncate=76 unlinkat=263 unshare=272 userfaultfd=323 vfork=58 vmsplice=278 setxattr=188
settimeofday=164 fsopen=430 rt_tgsigqueueinfo=297 setpgid=109 setsockopt=54
"""

_AARCH64 = """
acct=89 add_key=217 bind=200 bpf=280 capset=91 chroot=51 clock_settime=112 clone=220 clone3=435 connect=203
execve=221 execveat=281 fanotify_init=262 fchmodat=53 finit_module=273 ftruncate=46 getpriority=141 init_module=105
inotify_init1=26 io_uring_setup=425 kcmp=272 kexec_load=104 keyctl=219 kill=129 landlock_create_ruleset=444
linkat=37 memfd_create=279 memfd_secret=447 mkdirat=34 mknodat=33 mlock=228 mount=40 move_pages=239 mq_open=180
msgget=186 name_to_handle_at=264 open_by_handle_at=265 open_tree=428 openat2=437 perf_event_open=241 personality=92
pidfd_getfd=438 pidfd_open=434 pidfd_send_signal=424 pivot_root=41 prctl=167 prlimit64=261 process_madvise=440
process_vm_readv=270 process_vm_writev=271 ptrace=117 quotactl=60 reboot=142 renameat2=276 rt_sigqueueinfo=138
sched_setaffinity=122 sched_setscheduler=119 seccomp=277 semget=190 sendto=206 setdomainname=162 sethostname=161
setns=268 setpriority=140 setrlimit=164 setsid=157 setuid=146 shmat=196 shmget=194 signalfd4=74 socket=198 splice=76
swapon=224 symlinkat=36 sync=81 syslog=116 tgkill=131 timer_create=107 truncate=45 unlinkat=35 unshare=97
userfaultfd=282 vmsplice=75 setxattr=5 settimeofday=170 fsopen=430 rt_tgsigqueueinfo=240 setpgid=154 setsockopt=208
"""


def numbers() -> Mapping[str, int]:
    """Numbers of this machine's system calls by name; empty for an unknown machine."""
    table = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine(), "")
    return {name: int(number) for name, _, number in (entry.partition("=") for entry in table.split())}
