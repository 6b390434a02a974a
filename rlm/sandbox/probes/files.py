"""Probes of files: reading the machine's files, writing anywhere, and ways around an empty root."""

from __future__ import annotations

from rlm.sandbox.probes.probe import Probe, probes

FILES: tuple[Probe, ...] = probes(
    "files",
    {
        "read a secret of the host": "open(SECRET_FILE).read()",
        "read /etc/passwd": "open('/etc/passwd').read()",
        "list the root": "[name for name in os.listdir('/') if name in ('etc', 'proc', 'bin', 'dev')]",
        "list the home": "os.listdir(HOME)",
        "walk up with ..": "open(os.path.dirname(os.__file__) + '/..' * 12 + '/etc/passwd').read()",
        "read other installed packages": """
            import glob
            folder = os.path.dirname(os.__file__)
            [n for n in glob.glob(folder + '/*-packages/*') if os.access(n, os.R_OK) and (os.path.isdir(n) and os.listdir(n))]
        """,
        "read the engine's source": "open(HOST_FILE).read()",
        "read its own environment by /proc": "open('/proc/self/environ', 'rb').read()",
        "read the host's environment by /proc": "open(f'/proc/{HOST_PID}/environ', 'rb').read()",
        "read the host's command line": "open(f'/proc/{HOST_PID}/cmdline', 'rb').read()",
        "list processes by /proc": "[name for name in os.listdir('/proc') if name.isdigit()]",
        "read /sys": "os.listdir('/sys/class')",
        "read /dev": "os.listdir('/dev')",
        "read the kernel's log": "os.read(os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK), 100) or call('syslog', 3, 0, 0)",
        "read the disk": "[open(f'/dev/{name}', 'rb').read(1) for name in ('sda', 'vda', 'nvme0n1')]",
        "where a link leads": "[os.readlink(name) for name in ('/bin', '/lib', '/etc/mtab') if os.path.islink(name)]",
        "rights on a file of the host": "os.access(SECRET_FILE, os.F_OK)",
        "write to /tmp": "open('/tmp/rlm-probe', 'w').close() or os.path.exists('/tmp/rlm-probe')",
        "write to the current folder": "open('rlm-probe', 'w').close() or os.path.exists('rlm-probe')",
        "fill /dev/shm": "open('/dev/shm/rlm-probe', 'wb').write(bytes(1 << 20))",
        "make a temporary file": "import tempfile; tempfile.TemporaryFile().write(b'x')",
        "unnamed temporary file": """
            [os.open(place, os.O_TMPFILE | os.O_RDWR) for place in ('/', '/tmp', os.path.dirname(os.__file__))]
        """,
        "change the library": "open(os.__file__, 'a').write('\\n') or True",
        "put a module beside the library": "open(os.path.dirname(os.__file__) + '/rlm_probe.py', 'w').write('x = 1\\n')",
        "make a folder": "call('mkdirat', -100, b'/rlm-probe', 0o777) == 0",
        "make a link": "call('symlinkat', b'/etc', -100, b'/rlm-link') == 0",
        "link a file": "call('linkat', -100, os.__file__.encode(), -100, b'/rlm-hard', 0) == 0",
        "rename a file": "call('renameat2', -100, os.__file__.encode(), -100, b'/moved', 0) == 0",
        "delete the library": "call('unlinkat', -100, os.__file__.encode(), 0) == 0",
        "change a mode": "call('fchmodat', -100, os.__file__.encode(), 0o777) == 0",
        "truncate a file": "call('truncate', os.__file__.encode(), 0) == 0",
        "set an attribute": "call('setxattr', os.__file__.encode(), b'user.x', b'1', 1, 0) == 0",
        "make a device": "call('mknodat', -100, b'/rlm-null', 0o020666, 0x103) == 0",
        "open by handle": "call('open_by_handle_at', -100, bytes(128), 0) >= 0",
        "open by openat2": "call('openat2', -100, b'/etc/passwd', bytes(24), 24) >= 0",
        "open by O_PATH": "os.open('/etc', os.O_PATH)",
        "leave by chroot": "call('chroot', b'/') == 0",
        "mount a tmpfs": "call('mount', b'none', b'/', b'tmpfs', 0, 0) == 0",
        "mount by the new interface": "call('fsopen', b'tmpfs', 0) >= 0",
        "clone a mount": "call('open_tree', -100, b'/', 1) >= 0",
        "move the root": "call('pivot_root', b'/', b'/') == 0",
        "through an inherited folder": """
            import stat
            found = []
            for fd in range(256):
                try:
                    if stat.S_ISDIR(os.fstat(fd).st_mode):
                        found.append(os.listdir(fd))
                except OSError:
                    pass
            found
        """,
        "through an inherited socket": """
            import socket, struct
            found = []
            for fd in filter(is_socket, range(256)):
                with socket.socket(fileno=os.dup(fd)) as s:
                    maker = struct.unpack('3i', s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                if maker != os.getpid():
                    found.append(fd)
            found[1:]
        """,
        "watch files": "call('inotify_init1', 0) >= 0",
        "watch all files": "call('fanotify_init', 0, 0) >= 0",
        "sync the disks": "call('sync') == 0",
        "write more than a byte to a file of its own": """
            place = next(p for p in ('/tmp', '/dev/shm', '/var/tmp', '/run', '/') if os.access(p, os.W_OK))
            open(place + '/rlm-fill', 'wb').write(bytes(1 << 24))
        """,
    },
)
