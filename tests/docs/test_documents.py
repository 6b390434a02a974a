"""Documents are tested: the README's programs run, the examples run, and the map names files that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm.testing.server import ChatCall, ScriptedServer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def answer(call: ChatCall) -> str:
    return "```repl\nFINAL(llm_query('about ' + str(context)[:20]))\n```" if call.is_root else "a plain answer"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """What a user's shell would hold, with a scripted server in the provider's place."""
    with ScriptedServer.in_thread(answer) as server:
        yield {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "not-a-key"}


def run(command: list[str], environment: dict[str, str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_readmes_programs_run(number: int, environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(blocks("python")[number], encoding="utf-8")
    shown = run([sys.executable, "-W", "error", str(program)], environment)
    assert shown.returncode == 0, shown.stderr
    assert "a plain answer" in shown.stdout
    assert "Traceback" not in shown.stderr


def test_the_readmes_commands_are_accepted(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "one.txt").write_text("The supplier pays within 30 days.", encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("rlm ask")]
    assert len(lines) >= 2
    for line in lines:
        words = shlex.split(line)
        if "--model" not in words:
            words += ["--model", "gpt-4o"]  # the embedded model has tests of its own
        shown = run([sys.executable, "-m", *words], environment, tmp_path)
        assert (shown.returncode, shown.stdout) == (0, "a plain answer\n"), shown.stderr


@pytest.mark.parametrize(
    "arguments", [["departments.py"], ["watch.py", "README.md", "What is this?"], ["own_model.py"]]
)
def test_the_examples_run(arguments: list[str], environment: dict[str, str]) -> None:
    shown = run([sys.executable, f"examples/{arguments[0]}", *arguments[1:]], environment)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip()


def test_the_map_names_what_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text[text.index("## Map") : text.index("## Rules")]
    named = [
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    ]
    assert len(named) > 20
    folder = ""
    for name in named:
        folder = name.rpartition("/")[0] if "/" in name else folder
        assert any((ROOT / "rlm" / place).exists() for place in (name, f"{folder}/{name}")), name


def test_nothing_committed_names_this_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    forbidden = re.compile(
        r"/work/|/farm/|\.library|" + "py" + r"pi\.org|files\.pythonhosted|" + "registry" + r"\.npmjs"
    )
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".txt", ".yml", ""} and name != "LICENSE":
            text = path.read_text(encoding="utf-8", errors="replace")
            if name not in {".gitignore", "tests/docs/test_documents.py"}:
                assert not forbidden.search(text), name
