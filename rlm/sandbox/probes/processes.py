"""Probes of processes: new programs, forks and namespaces, signals to others, privileges and priorities."""

from __future__ import annotations

from rlm.sandbox.probes.probe import Probe, probes

PROCESSES: tuple[Probe, ...] = probes(
    "processes",
    {
        "run a shell": "os.system('exit 7') == 7 << 8",
        "run a program": "import subprocess, sys; subprocess.run([sys.executable, '-c', '1']).returncode == 0",
        "which processes exist, by their group": "[pid for pid in (HOST_PID, SIBLING_PID) if os.getpgid(pid) >= 0]",
        "which processes exist, by their session": "[pid for pid in (HOST_PID, SIBLING_PID) if os.getsid(pid) >= 0]",
        "the credentials of the host": """
            import socket, struct
            fd = next(fd for fd in range(3, 256) if is_socket(fd))
            struct.unpack('3i', socket.socket(fileno=os.dup(fd)).getsockopt(1, 17, 12))[0]
        """,
        "become a program": "os.execv('/bin/true', ['true'])",
        "run a program from memory": """
            fd = call('memfd_create', b'x', 0)
            call('execveat', fd, b'', 0, 0, 0x1000)
        """,
        "fork": "os.fork() and True or os._exit(0)",
        "fork by vfork": "call('vfork') and True or os._exit(0)",
        "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
        "fork with its parent's parent": "call('clone', 0x8000 | 17, 0, 0, 0, 0) and True or os._exit(0)",
        "fork by clone3": """
            import struct
            call('clone3', struct.pack('11Q', 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88) and True or os._exit(0)
        """,
        "new user namespace": "call('unshare', 0x10000000) == 0",
        "new user namespace by clone": "call('clone', 0x10000000 | 17, 0, 0, 0, 0) and True or os._exit(0)",
        "new network namespace": "call('unshare', 0x40000000) == 0",
        "new mount namespace": "call('unshare', 0x20000) == 0",
        "another's namespace": "call('setns', 0, 0) == 0",
        "see the host": "os.kill(HOST_PID, 0) is None",
        "see the sibling": "os.kill(SIBLING_PID, 0) is None",
        "see any other process": """
            seen = []
            for pid in [*range(2, 3000), HOST_PID, SIBLING_PID, os.getppid()]:
                if pid and pid != os.getpid():
                    try:
                        os.kill(pid, 0)
                        seen.append(pid)
                    except PermissionError as error:
                        pass
                    except ProcessLookupError:
                        pass
            seen
        """,
        "kill the sibling": "os.kill(SIBLING_PID, 9) is None",
        "kill the parent": "os.getppid() > 0 and os.kill(os.getppid(), 9) is None",
        "signal a thread of the host": "call('tgkill', HOST_PID, HOST_PID, 0) == 0",
        "queue a signal": "call('rt_sigqueueinfo', SIBLING_PID, 9, bytes(128)) == 0",
        "signal by ownership of a descriptor": """
            import fcntl
            fcntl.fcntl(0, 8, SIBLING_PID) is not None
        """,
        "signal by a timer": "call('timer_create', 1, 0, bytes(8)) == 0",
        "become root": "call('setuid', 0) == 0",
        "take capabilities": """
            import struct
            call('capset', struct.pack('Ii', 0x20080522, 0), struct.pack('6I', *[0xFFFFFFFF] * 6)) == 0
        """,
        "outlive the zygote": "call('prctl', 1, 0, 0, 0, 0) == 0",
        "make itself readable": "call('prctl', 4, 1, 0, 0, 0) == 0",
        "adopt orphans": "call('prctl', 36, 1, 0, 0, 0) == 0",
        "leave its session": "call('setsid') >= 0",
        "change its group": "call('setpgid', 0, 0) == 0",
        "run first": "call('setpriority', 0, 0, -20) == 0",
        "run in real time": "call('sched_setscheduler', 0, 1, bytes([50, 0, 0, 0])) == 0",
        "move another to one processor": "call('sched_setaffinity', HOST_PID, 8, bytes([1]) + bytes(7)) == 0",
        "limits of another": "call('prlimit64', SIBLING_PID, 0, 0, bytes(16)) == 0",
        "more descriptors": """
            import resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (100000, 100000))
            True
        """,
        "another personality": "call('personality', 0x0400000) >= 0",
        "another filter": "call('seccomp', 1, 8, bytes(16)) >= 0",
    },
)
