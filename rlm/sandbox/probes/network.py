"""Probes of the network: every family of sockets, and ways to a socket without ``socket``."""

from __future__ import annotations

from rlm.sandbox.probes.probe import Probe, probes

NETWORK: tuple[Probe, ...] = probes(
    "network",
    {
        "connect to a server of the host": "import socket; socket.create_connection(('127.0.0.1', PORT), 2)",
        "connect by IPv6": "import socket; socket.socket(socket.AF_INET6)",
        "listen": """
            import socket
            s = socket.socket()
            s.bind(('127.0.0.1', 0))
            s.listen()
            s.getsockname()
        """,
        "datagrams": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
        "raw packets": "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "packets below IP": "import socket; socket.socket(17, socket.SOCK_RAW)",
        "a local socket by path": "import socket; s = socket.socket(socket.AF_UNIX); s.connect(SOCKET_FILE); True",
        "an abstract local socket": "import socket; s = socket.socket(socket.AF_UNIX); s.connect(ABSTRACT); True",
        "listen on an abstract socket": "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0rlm-mine'); True",
        "kernel messages": "import socket; socket.socket(16, socket.SOCK_RAW)",
        "the kernel's ciphers": "import socket; socket.socket(38, socket.SOCK_SEQPACKET)",
        "the hypervisor": "import socket; socket.socket(40, socket.SOCK_STREAM)",
        "Bluetooth": "import socket; socket.socket(31, socket.SOCK_RAW, 1)",
        "CAN": "import socket; socket.socket(29, socket.SOCK_RAW)",
        "rare families": "[f for f in range(1, 46) if call_or_none('socket', f, 1, 0) or call_or_none('socket', f, 2, 0)]",
        "a pair that can name peers": "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "connect its own socket elsewhere": """
            import socket
            s = socket.socketpair()[0]
            call('connect', s.fileno(), b'\\x01\\x00\\x00rlm', 6) == 0
        """,
        "bind its own socket": """
            import socket
            s = socket.socketpair()[0]
            call('bind', s.fileno(), b'\\x01\\x00\\x00rlm-own', 10) == 0
        """,
        "resolve a name": "import socket; socket.getaddrinfo('localhost', 80)",
        "fetch a page": "import urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{PORT}/', timeout=2).read()",
        "a socket by io_uring": "call('io_uring_setup', 8, bytes(120)) >= 0",
    },
)
