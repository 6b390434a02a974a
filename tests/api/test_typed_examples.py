"""Type checkers know the type of typed answers: the example file passes them in strict mode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "typed_answers.py"
WRONG = """
import rlm

def ask(engine: rlm.RLM) -> None:
    number: str = engine.run("q", schema=int).answer
    engine.run("q", schema=list[int]).answer.upper()
"""


def check(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.slow
def test_mypy_accepts_example_and_finds_mistakes(tmp_path: Path) -> None:
    assert "assert_type" in EXAMPLE.read_text(encoding="utf-8")
    accepted = check("mypy", "--strict", str(EXAMPLE))
    assert accepted.returncode == 0, accepted.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG, encoding="utf-8")
    shown = check("mypy", "--strict", str(wrong))
    assert 'expression has type "int"' in shown.stdout
    assert '"list[int]" has no attribute "upper"' in shown.stdout


@pytest.mark.slow
def test_pyright_accepts_example_and_finds_mistakes(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    python = ("--pythonpath", sys.executable)
    accepted = check("pyright", *python, str(EXAMPLE))
    if "errors" not in accepted.stdout:
        pytest.skip("pyright cannot start here: it installs itself when it first runs")
    assert accepted.returncode == 0, accepted.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG, encoding="utf-8")
    shown = check("pyright", *python, str(wrong))
    assert '"int" is not assignable to "str"' in shown.stdout
    assert 'Cannot access attribute "upper"' in shown.stdout
