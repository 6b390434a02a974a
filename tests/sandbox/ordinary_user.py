"""Runs a Python program as an ordinary user, from root: ``python ordinary_user.py PROGRAM [ARGUMENT ...]``.

Root's Python can lie in a folder that only root can read (``/root``). So Python and the package are first mounted at other
paths, in a mount namespace that ends with the program.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from rlm.sandbox.worker.confine.kernel import call, mount  # noqa: E402

USER = 12_345
NEW_MOUNTS, PRIVATE, RECURSIVE, BIND = 0x20000, 0x40000, 0x4000, 0x1000


def main() -> None:
    program, *arguments = sys.argv[1:]
    call("unshare", NEW_MOUNTS)
    mount("none", "/", "", RECURSIVE | PRIVATE)
    place = Path(tempfile.mkdtemp(prefix="rlm-ordinary-", dir="/tmp"))
    place.chmod(0o755)
    mount("none", str(place), "tmpfs", 0, "mode=755")
    for source, name in (
        (Path(sys.base_prefix), "python"),
        (REPOSITORY / "rlm", "code/rlm"),
        (Path(program), "program"),
    ):
        target = place / name
        if source.is_dir():
            target.mkdir(parents=True)
        else:
            target.touch()
        mount(str(source), str(target), "", BIND)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    python = place / "python" / "bin" / f"python3.{sys.version_info[1]}"
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(place / "code"),
        "HOME": "/",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    os.chdir("/")
    os.execve(python, [str(python), "-W", "error", str(place / "program"), *arguments], environment)


if __name__ == "__main__":
    main()
