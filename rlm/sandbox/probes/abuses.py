"""Probes of abuse: exhausting the machine and sending malformed messages. Host and sibling must continue unharmed."""

from __future__ import annotations

from rlm.sandbox.probes.probe import Probe, probes

EXHAUSTION: tuple[Probe, ...] = probes(
    "abuse",
    {
        "fork bomb": """
            made = 0
            for _ in range(2000):
                try:
                    if os.fork() == 0:
                        while True:
                            os.fork()
                    made += 1
                except OSError:
                    pass
            made
        """,
        "more copies than one at a time": """
            import threading, time
            made = []
            def multiply():
                for _ in range(30):
                    try:
                        pid = call('clone', 17, 0, 0, 0, 0)
                    except OSError:
                        continue
                    if pid == 0:
                        time.sleep(2)
                        os._exit(0)
                    made.append(pid)
            multiply()
            thread = threading.Thread(target=multiply)
            thread.start()
            thread.join()
            len(made) > 1
        """,
        "a copy of a copy": """
            import time
            reader, writer = os.pipe()
            if call('clone', 17, 0, 0, 0, 0) == 0:
                try:
                    if call('clone', 17, 0, 0, 0, 0):
                        os.write(writer, b'made')
                except OSError:
                    pass
                os._exit(0)
            os.close(writer)
            os.read(reader, 10)
        """,
        "thread bomb": """
            import threading
            stop = threading.Event()
            threading.stack_size(262_144)  # the least that every machine accepts is 128 KB
            made = 0
            try:
                for _ in range(5000):
                    threading.Thread(target=stop.wait, daemon=True).start()
                    made += 1
            except RuntimeError:
                pass
            stop.set()
            made >= 1000
        """,
        "descriptor bomb": """
            made = []
            try:
                for _ in range(100_000):
                    made.append(os.dup(0))
            except OSError:
                pass
            for fd in made:
                os.close(fd)
            len(made) > 5000
        """,
        "pipe bomb": """
            made = []
            try:
                for _ in range(10_000):
                    made += os.pipe()
                    os.set_blocking(made[-1], False)
                    os.write(made[-1], bytes(1 << 20))
            except OSError:
                pass
            for fd in made:
                os.close(fd)
            len(made) > 5000
        """,
        "memory of the kernel in socket buffers": """
            import socket
            made, sent = [], 0
            try:
                while True:
                    made.append(socket.socketpair())
                    for end in made[-1]:
                        call_or_none('setsockopt', end.fileno(), 1, 7, (1 << 30).to_bytes(4, 'little'), 4)
                        end.setblocking(False)
                        try:
                            while True:
                                sent += end.send(bytes(65536))
                        except BlockingIOError:
                            pass
            except OSError:
                pass
            for pair in made:
                for end in pair:
                    end.close()
            sent > MEMORY_BYTES // 4
        """,
        "larger buffers of a socket": """
            import socket
            one, other = socket.socketpair()
            before = one.getsockopt(1, 4)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
            True
        """,
        "memory bomb": """
            import mmap
            held = []
            try:
                while len(held) * (16 << 20) < 2 * MEMORY_BYTES:
                    held.append(mmap.mmap(-1, 16 << 20))
            except (OSError, MemoryError):
                pass
            len(held) * (16 << 20) > MEMORY_BYTES
        """,
        "memory bomb in shared pages": """
            import mmap
            held = []
            try:
                while len(held) * (16 << 20) < 2 * MEMORY_BYTES:
                    held.append(mmap.mmap(-1, 16 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS))
            except (OSError, MemoryError):
                pass
            len(held) * (16 << 20) > MEMORY_BYTES
        """,
        "memory bomb by nesting": "x = []\nfor _ in range(10**7): x = [x]\ndel x\nFalse",
        "kill everything": """
            for pid in (-1, 0):
                try:
                    os.kill(pid, 15)
                except OSError:
                    pass
            False
        """,
    },
)


_SOCKET = """
import json, socket, struct, time
fd = next(fd for fd in range(3, 256) if is_socket(fd))

def frame(header, body=b''):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('>II', len(head), len(body)) + head + body

def ask(number, prompt=b'x'):
    return frame({'t': 'call', 'kind': 'model', 'first': number, 'prompts': [len(prompt)]}, prompt)
"""
_SENT: dict[str, str] = {
    "garbage": "os.urandom(4096)",
    "zeros": "bytes(4096)",
    "a frame of 300 MB": "struct.pack('>II', 30, 300 << 20) + bytes(30)",
    "a header of 4 GB": "bytes([255] * 8)",
    "an unknown type": "frame({'t': 'shutdown'})",
    "a header that is not an object": "frame(b'[1, 2, 3]')",
    "a header that is not text": "frame(bytes([255, 254, 253]))",
    "a header nested too deeply": "frame(b'[' * 60_000)",
    "a forged answer": "frame({'t': 'reply', 'items': [[1, 's', 1]]}, b'x')",
    "a value that nobody asked for": "frame({'t': 'value', 'kind': 's'}, b'x')",
    "ready a second time": "frame({'t': 'ready'})",
    "an end without a report": "frame({'t': 'done', 'end': 'ok'})",
    "a call with another's number": "ask(77)",
    "a call of negative length": "frame({'t': 'call', 'kind': 'model', 'first': 1, 'prompts': [-1]})",
    "a call of a false length": "frame({'t': 'call', 'kind': 'model', 'first': 1, 'prompts': [5]}, b'x')",
    "a number that is infinite": "frame({'t': 'call', 'kind': 'model', 'first': 1e400, 'prompts': [1]}, b'x')",
    "a sub-call of an unknown kind": "frame({'t': 'call', 'kind': 'tool', 'first': 1, 'prompts': [1]}, b'x')",
    "a sub-call without a kind": "frame({'t': 'call', 'first': 1, 'prompts': [1]}, b'x')",
    "a budget query with a prompt": "frame({'t': 'call', 'kind': 'budget', 'first': 1}, b'x')",
    "an unknown option": "frame({'t': 'call', 'kind': 'model', 'first': 1, 'prompts': [1], 'options': 12}, b'{\"budget\":9}x')",
    "more calls than may be open": "b''.join(ask(number) for number in range(1, 2200))",
    "withdrawal of others' calls": "frame({'t': 'cancel', 'calls': [-1]})",
    "a part without an end": "frame({'t': 'part'}, bytes(1 << 20))",
}
_DONE: dict[str, tuple[float, str]] = {
    "the socket is closed": (5.0, "os.close(fd); time.sleep(1)"),
    "half a frame, then silence": (1.0, "os.write(fd, bytes(3)); time.sleep(30)"),
    "endless parts": (
        3.0,
        "part = frame({'t': 'part'}, bytes(1 << 20))\nwhile True: os.write(fd, part)",
    ),
    "answers are never read": (2.0, "os.write(fd, b''.join(ask(n) for n in range(1, 200)))\nwhile True: pass"),
    "nothing but a loop": (1.0, "while True: pass"),
    "a flood of output": (1.5, "while True: print('x' * 100_000)"),
    "a flood of lines": (1.5, "while True: print('x', flush=True)"),
    "a flood of frames": (1.5, "out = frame({'t': 'out', 'stream': 0}, b'x' * 1000)\nwhile True: os.write(fd, out)"),
    "every signal is ignored": (
        1.0,
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
    ),
    "descriptors for the host": (5.0, "socket.send_fds(socket.socket(fileno=fd), [b'x'], [0, 1, 2]); time.sleep(1)"),
    "an echo of 300 MB": (5.0, "class Big:\n  def __repr__(self): return 'x' * (300 << 20)\nBig()"),
    "an answer of 300 MB": (5.0, "FINAL('x' * (300 << 20))"),
    "an answer nested too deeply": (5.0, "x = []\nfor _ in range(100_000): x = [x]\nFINAL(x)"),
    "a million variables": (5.0, "globals().update({f'v{n}': n for n in range(10**6)})"),
    "an endless traceback": (5.0, "raise ValueError('x' * (100 << 20))"),
}

WIRE: tuple[Probe, ...] = (
    *(
        Probe(f"wire.{name}", f"{_SOCKET}\nos.write(fd, {sent})\ntime.sleep(1)", protocol=True)
        for name, sent in _SENT.items()
    ),
    *(
        Probe(f"wire.{name}", f"{_SOCKET}\n{code}", protocol=True, seconds=seconds)
        for name, (seconds, code) in _DONE.items()
    ),
)

HARMLESS: tuple[Probe, ...] = (
    Probe(
        "harmless.lists its own descriptors",
        "[fd for fd in range(256) if is_open(fd)]",
        harmless="its socket and /dev/null: it holds nothing else",
    ),
    Probe(
        "harmless.imports ctypes",
        "import ctypes; ctypes.CDLL(None).getpid() > 0",
        harmless="the boundary is the kernel: native calls meet the same filter",
    ),
    Probe(
        "harmless.starts threads",
        "import threading; t = threading.Thread(target=int); t.start(); t.join(); True",
        harmless="their number is bounded, and they end with the REPL",
    ),
    Probe(
        "harmless.names the kernel",
        "os.uname().release",
        harmless="the version of the kernel is no secret to who may ask it anything",
    ),
    Probe(
        "harmless.sees the size of the machine",
        "os.sysconf('SC_PHYS_PAGES') if hasattr(os, 'sysconf') else 0",
        harmless="memory, load and uptime of the machine: numbers without names",
    ),
    Probe(
        "harmless.signals itself",
        "import signal; os.kill(os.getpid(), 0) is None",
        harmless="it may end itself, as by os._exit",
    ),
    Probe(
        "harmless.burns its processor time",
        "sum(range(10**6))",
        harmless="fair scheduling and the time limit of a cell bound it",
    ),
)
