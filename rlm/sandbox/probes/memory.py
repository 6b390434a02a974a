"""Probes of memory: the host's, the siblings', memory outside the limit, and pages that are written and executed."""

from __future__ import annotations

from rlm.sandbox.probes.probe import Probe, probes

MEMORY: tuple[Probe, ...] = probes(
    "memory",
    {
        "environment": "[value for value in os.environ.values() if SECRET_HALF in value]",
        "environment of the C library": """
            import ctypes
            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_char_p
            getenv(b'RLM_PROBE_SECRET')
        """,
        "secrets in objects": """
            import gc
            def is_secret(v):
                return type(v) is str and v[:16] == SECRET_HALF and v[16:] == '-tail'
            [o for o in gc.get_objects() if isinstance(o, dict) and any(map(is_secret, o.values()))]
        """,
        "read the host by process_vm_readv": """
            import ctypes
            buffer = ctypes.create_string_buffer(8)
            class Span(ctypes.Structure):
                _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
            span = Span(ctypes.addressof(buffer), 8)
            call('process_vm_readv', HOST_PID, ctypes.byref(span), 1, ctypes.byref(span), 1, 0) > 0
        """,
        "write the sibling by process_vm_writev": """
            import ctypes
            class Span(ctypes.Structure):
                _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
            buffer = ctypes.create_string_buffer(8)
            span = Span(ctypes.addressof(buffer), 8)
            call('process_vm_writev', SIBLING_PID, ctypes.byref(span), 1, ctypes.byref(span), 1, 0) > 0
        """,
        "trace the sibling": "call('ptrace', 16, SIBLING_PID, 0, 0) == 0",
        "seize the host": "call('ptrace', 0x4206, HOST_PID, 0, 0) == 0",
        "let itself be traced": "call('ptrace', 0, 0, 0, 0) == 0",
        "open the host's memory": "open(f'/proc/{HOST_PID}/mem', 'rb')",
        "open its own memory": "open('/proc/self/mem', 'r+b')",
        "take descriptors of others": """
            taken = []
            for pid in [HOST_PID, SIBLING_PID, *range(1, 50)]:
                if pid != os.getpid():
                    taken.append(call('pidfd_getfd', call('pidfd_open', pid, 0), 0, 0))
            taken
        """,
        "name the host by pidfd": "call('pidfd_open', HOST_PID, 0) >= 0",
        "compare kernel objects": "call('kcmp', os.getpid(), os.getpid(), 1, 0, 0) >= 0",
        "handle page faults": "call('userfaultfd', 0) >= 0",
        "count events": "call('perf_event_open', bytes(120), 0, -1, -1, 0) >= 0",
        "load a kernel program": "call('bpf', 0, bytes(120), 120) >= 0",
        "advise another process": "call('process_madvise', 0, 0, 0, 0, 0) >= 0",
        "move pages": "call('move_pages', 0, 0, 0, 0, 0, 0) >= 0",
        "shared memory of System V": "call('shmget', 0, 1 << 20, 0o1666) >= 0",
        "semaphores of System V": "call('semget', 0, 1, 0o1666) >= 0",
        "messages of System V": "call('msgget', 0, 0o1666) >= 0",
        "message queue": "call('mq_open', b'rlm', 0o102, 0o600, 0) >= 0",
        "memory outside the limit by memfd": """
            fd = call('memfd_create', b'x', 0)
            os.ftruncate(fd, 1 << 30)
            os.write(fd, bytes(1 << 20))
        """,
        "secret memory": "call('memfd_secret', 0) >= 0",
        "named shared memory": """
            from multiprocessing import shared_memory
            shared_memory.SharedMemory(create=True, size=1 << 20).name
        """,
        "pages written and executed": "import mmap; mmap.mmap(-1, 4096, prot=7)",
        "make written pages executable": """
            import ctypes, mmap
            page = mmap.mmap(-1, 4096)
            address = ctypes.addressof(ctypes.c_char.from_buffer(page))
            libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), 5) == 0
        """,
        "a callback in new code": """
            import ctypes, mmap
            page = mmap.mmap(-1, 4096, prot=7)
            page.write(b'\\xc3')
            ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))() is None
        """,
        "huge pages of the machine": "import mmap; mmap.mmap(-1, 1 << 21, flags=0x40022)",
        "pin memory": "call('mlock', id(object()) & ~4095, 4096) == 0",
        "more memory than allowed": "len(bytearray(MEMORY_BYTES + (1 << 20)))",
        "raise the memory limit": """
            import resource
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
            len(bytearray(MEMORY_BYTES + (1 << 20)))
        """,
        "more memory by a raw limit": """
            import ctypes
            limit = (ctypes.c_uint64 * 2)(2**64 - 1, 2**64 - 1)
            call('prlimit64', 0, 9, limit, 0) == 0
        """,
    },
)
