"""``rlm cache`` shows, limits and empties the cache of converted documents."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from cli_process import rlm


def test_cache_is_shown_limited_and_cleared(tmp_path: Path) -> None:
    for number in range(3):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as packed:
            packed.writestr("a.txt", f"note {number}")
    env = {"RLM_CACHE_DIR": str(tmp_path / "cache")}

    def facts() -> dict[str, int]:
        return json.loads(rlm("cache", "--json", env=env).stdout)  # type: ignore[no-any-return]

    assert rlm("ask", "--list-files", *map(str, tmp_path.glob("*.zip")), env=env).returncode == 0
    before = facts()
    assert (before["entries"], before["limit_bytes"]) == (3, 1_000_000_000)
    assert rlm("cache", env=env).stdout.startswith(str(tmp_path / "cache").encode() + b"/documents: 3 entries, ")
    one = before["bytes"] // 3
    assert rlm("cache", "limit", f"{(one + 10) / 1000:.3f} kB", env=env).returncode == 0
    assert (facts()["entries"], facts()["limit_bytes"]) == (1, one + 10)
    assert rlm("cache", "clear", env=env).stdout.endswith(b"MB freed\n")
    assert facts()["entries"] == 0
    wrong = rlm("cache", "limit", "much", env=env)
    assert (wrong.returncode, b"500MB" in wrong.stderr) == (2, True)
