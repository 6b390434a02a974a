"""Entry point of a worker as a plain process: ``python -I -S PATH/worker --fd N --parent PID``.

It loads its own folder as the package ``worker`` without adding anything to ``sys.path``. It ties its life to the host's and
serves the socket.
"""

import importlib.util
import os
import signal
import socket
import sys


def load_package() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "worker",
        os.path.join(folder, "__init__.py"),
        submodule_search_locations=[folder],
    )
    if spec is None or spec.loader is None:
        raise ImportError(folder)
    package = importlib.util.module_from_spec(spec)
    sys.modules["worker"] = package
    spec.loader.exec_module(package)


def die_with(parent: int) -> None:
    """Asks the kernel to kill this process when the host ends, because a busy loop would not notice the closed socket."""
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415  only Linux needs it

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # the host ended before the request
        os._exit(0)


def main() -> None:
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    die_with(int(options["--parent"]))
    sock = socket.socket(fileno=int(options["--fd"]))
    sys.argv[:] = [""]
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    load_package()
    importlib.import_module("worker.main").serve(sock)


if __name__ == "__main__":
    main()
