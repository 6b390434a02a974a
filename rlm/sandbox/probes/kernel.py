"""Probes of the kernel: rare calls with a history of vulnerabilities, other call tables, and settings of the machine."""

from __future__ import annotations

from rlm.sandbox.probes.probe import Probe, probes

KERNEL: tuple[Probe, ...] = probes(
    "kernel",
    {
        "calls of the x32 table": "libc.syscall(ctypes.c_long(0x40000000 + 39)) > 0",
        "asynchronous calls": "call('io_uring_setup', 8, bytes(120)) >= 0",
        "keys of the kernel": "call('keyctl', 0, -3, 1, 0, 0) >= 0",
        "add a key": "call('add_key', b'user', b'rlm', b'x', 1, -3) >= 0",
        "load a module": "call('init_module', bytes(64), 64, b'') == 0",
        "load a module from a file": "call('finit_module', 0, b'', 0) == 0",
        "load another kernel": "call('kexec_load', 0, 0, 0, 0) == 0",
        "reboot": "call('reboot', 0xfee1dead, 672274793, 0, 0) == 0",
        "swap": "call('swapon', b'/dev/vda', 0) == 0",
        "ports": "call('iopl', 3) == 0 or call('ioperm', 0, 16, 1) == 0",
        "segments": "call('modify_ldt', 0, bytes(64), 64) >= 0",
        "set the clock": "call('clock_settime', 0, bytes(16)) == 0",
        "set the time": "call('settimeofday', bytes(16), 0) == 0",
        "set the host name": "call('sethostname', b'x', 1) == 0",
        "accounting": "call('acct', b'/tmp/x') == 0",
        "quotas": "call('quotactl', 0, 0, 0, 0) == 0",
        "the kernel's log": "call('syslog', 10, 0, 0) >= 0",
        "splice memory into pipes": "r, w = os.pipe(); call('vmsplice', w, 0, 0, 0) >= 0",
        "splice": "r, w = os.pipe(); call('splice', r, 0, w, 0, 0, 2) >= 0",
        "signals as files": "call('signalfd4', -1, bytes(8), 8, 0) >= 0",
        "type into a terminal": """
            import fcntl
            fcntl.ioctl(0, 0x5412, b'x') is not None
        """,
        "a call that no kernel has": "libc.syscall(ctypes.c_long(9999)) >= 0",
    },
)
