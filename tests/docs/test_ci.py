"""``.ci/run`` on a small checkout: literal README blocks, and the exit status of failing steps."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
FAKE_TOOLS = "ruff() { echo ruff $*; }; mypy() { echo mypy; }; lint-imports() { echo lint; }"
INSTALL_TOOLS = f"mkdir -p .venv/bin &&\n  echo '{FAKE_TOOLS}' > .venv/bin/activate"


def run_ci(folder: Path, ask: str, test: str) -> subprocess.CompletedProcess[str]:
    """Runs the script in a checkout with these README blocks, with a fake browser so that it installs nothing."""
    (folder / ".ci").mkdir()
    shutil.copy(SCRIPT, folder / ".ci" / "run")
    readme = "".join(
        f"<!-- {name}-command -->\n```bash\n{commands}\n```\n<!-- end -->\n"
        for name, commands in (("ask", ask), ("test", test))
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")
    tools = folder / "tools"
    tools.mkdir()
    (tools / "chromedriver").touch(mode=0o755)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", ".ci/run"], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )


def test_ci_passes_if_all_steps_pass(tmp_path: Path) -> None:
    ended = run_ci(
        tmp_path, 'test -z "$VIRTUAL_ENV" && test -f README.md && touch here', f"test ! -e here && {INSTALL_TOOLS}"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "all steps passed" in ended.stdout
    assert "ruff format --check ." in ended.stdout
    assert not (tmp_path / "here").exists()  # blocks run in copies


@pytest.mark.parametrize(
    ("ask", "test", "failed"),
    [
        ("false", INSTALL_TOOLS, ["README: ask"]),
        ("", INSTALL_TOOLS, ["README: ask"]),
        ("true", INSTALL_TOOLS.replace("mypy() { echo mypy; }", "mypy() { false; }"), ["mypy"]),
        ("true", f"{INSTALL_TOOLS} && exit 5", ["README: tests"]),
    ],
)
def test_ci_fails_if_one_step_fails(ask: str, test: str, failed: list[str], tmp_path: Path) -> None:
    ended = run_ci(tmp_path, ask, test)
    assert ended.returncode == 1
    assert [line for line in ended.stdout.splitlines() if line.startswith("failed: ")] == [
        f"failed: {n}" for n in failed
    ]
