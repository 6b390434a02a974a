"""Code blocks of README.md and docs/, the examples, and the map of the code in ARCHITECTURE.md."""

from __future__ import annotations

import json
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
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REPLY = "a plain answer"
INTERACTIVE = ("rlm debug", "rlm eval")  # a prompt, and the tasks' own tests
FORBIDDEN = re.compile(r"/work/|/farm/|\.library|" + "py" + r"pi\.org|files\.pythonhosted|" + "registry" + r"\.npmjs")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def programs() -> list[tuple[str, int]]:
    return [(page.name, number) for page in PAGES for number in range(len(blocks(page, "python")))]


def commands() -> list[str]:
    """Every ``rlm`` command line of every page, without its comment."""
    text = "\n".join(block.replace("\\\n", " ") for page in PAGES for block in blocks(page, "bash"))
    lines = [line.strip().partition("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("rlm ") and not line.startswith(INTERACTIVE)]


def typed_value(outline: str) -> object:
    """A value of a type in short form: an object of plain fields, or an array."""
    if not outline.startswith("{"):
        simple = {"integer": 1, "number | null": 1.5}
        return [] if outline.endswith("[]") else simple.get(outline, outline.partition('" |')[0].strip('"'))
    if outline.endswith("}[]"):
        return []
    fields = re.findall(r"^  (\w+): (.+?)(?:  //.*)?$", outline, re.MULTILINE)
    values = {"integer": 1, "number": 1.5, "boolean": True}
    return {name: [] if kind.endswith("[]") else values.get(kind, REPLY) for name, kind in fields}


def answer(call: ChatCall) -> str:
    typed = re.search(r"a value of this type:\n```\n(.*?)\n```", call.prompt, re.DOTALL)
    if call.is_root and typed:
        return f"```repl\nFINAL({typed_value(typed[1])!r})\n```"
    return "```repl\nFINAL(llm_query('about ' + str(context)[:20]))\n```" if call.is_root else REPLY


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A user's shell environment, with a scripted server as the provider."""
    with ScriptedServer.in_thread(answer) as server:
        yield {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "not-a-key"}


def run(command: list[str], environment: dict[str, str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("page", "number"), programs())
def test_documented_programs_run(page: str, number: int, environment: dict[str, str], tmp_path: Path) -> None:
    (source,) = [blocks(path, "python")[number] for path in PAGES if path.name == page]
    program = tmp_path / "program.py"
    program.write_text(source, encoding="utf-8")
    shown = run([sys.executable, "-W", "error", str(program)], environment | {"RLM_STORE": str(tmp_path / "runs.db")})
    assert shown.returncode == 0, shown.stderr
    assert (REPLY in shown.stdout) == ("RLM" in source)
    assert shown.stdout
    assert "Traceback" not in shown.stderr


def test_documented_commands_run_in_order(environment: dict[str, str], tmp_path: Path) -> None:
    """Runs every command with one store, so that later ones find the runs of earlier ones."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "one.txt").write_text("The supplier pays within 30 days.", encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = commands()
    assert len([line for line in lines if line.startswith("rlm ask")]) >= 3
    assert len(lines) >= 8
    for line in lines:
        words, _, target = line.partition(" > ")
        arguments = shlex.split(words)[1:]
        if arguments[0] == "ask" and "--model" not in arguments:
            arguments += ["--model", "gpt-4o"]  # the embedded model has tests of its own
        shown = run([sys.executable, "-m", "rlm", *arguments], environment | {"RLM_STORE": "runs.db"}, tmp_path)
        assert shown.returncode == 0, (line, shown.stderr)
        assert shown.stdout.startswith("<!doctype html>" if target else ""), line
        if "--schema" in arguments:
            json.loads(shown.stdout)
        elif arguments[0] in ("ask", "resume"):  # resuming a complete run returns its answer
            assert shown.stdout == f"{REPLY}\n", line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_resolve(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["departments.py"],
        ["watch.py", "README.md", "What is this?"],
        ["own_model.py"],
        ["own_plan.py"],
        ["tools.py"],
        ["typed_answers.py"],
    ],
)
def test_examples_run(arguments: list[str], environment: dict[str, str]) -> None:
    shown = run([sys.executable, f"examples/{arguments[0]}", *arguments[1:]], environment)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip()


def test_map_of_code_names_existing_files() -> None:
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


def test_tracked_files_name_no_machine_or_registry() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    for name in listing.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".txt", ".yml", ""} and path.name != "LICENSE":
            text = path.read_text(encoding="utf-8", errors="replace")
            if name not in {".gitignore", "tests/docs/test_documents.py"}:
                assert not FORBIDDEN.search(text), name
