"""``rlm eval`` as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rlm_eval(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rlm", "eval", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'evals'}", "LANG": "C.UTF-8"},
        timeout=100,
        check=False,
    )


def test_second_run_resumes_and_report_compares_arms(tmp_path: Path) -> None:
    arguments = ["run", "r.jsonl", "-a", "reference:1", "reference:2", "-t", "ruler/vt", "-l", "2K", "4K", "-n", "2"]
    first = rlm_eval(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "| ruler/vt | 2K        | reference:1 | 2 | 1.000 [1.000, 1.000]" in first.stdout
    assert "8 done, 0 failed" in first.stderr
    second = rlm_eval(*arguments, "-q", cwd=tmp_path)
    assert "0 done, 8 already in the file" in second.stderr
    assert second.stdout == first.stdout
    report = rlm_eval("report", "r.jsonl", "--plot", "p.svg", "--baseline", "reference:2", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "Against `reference:2`" in report.stdout
    assert (tmp_path / "p.svg").read_text().startswith("<svg")


def test_total_limit_stops_early_with_notice(tmp_path: Path) -> None:
    arguments = ["run", "r.jsonl", "-a", "reference:1", "-t", "ruler/vt", "-l", "2K", "-n", "9", "--parallel", "1"]
    done = rlm_eval(*arguments, "--total-calls", "10", cwd=tmp_path)
    assert done.returncode == 3
    assert "stopped early at the total limit of calls" in done.stderr


def test_exported_items_run_from_file(tmp_path: Path) -> None:
    exported = rlm_eval("make", "i.jsonl", "-t", "records", "-l", "2K", "-n", "3", cwd=tmp_path)
    assert "wrote 3 items" in exported.stderr
    done = rlm_eval("run", "r.jsonl", "-a", "reference:1", "--items", "i.jsonl", "-q", cwd=tmp_path)
    assert "3 done, 0 failed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "r.jsonl", "-a", "rlm:1", "-t", "records"], "--model"),
        (["run", "r.jsonl", "-a", "magic", "-t", "records"], "an arm must be direct"),
        (["run", "r.jsonl", "-a", "reference:1"], "--task or --items FILE is required"),
        (["run", "r.jsonl", "-a", "reference:1", "-t", "nothing"], "`task` must be one of"),
        (["run", "r.jsonl", "-a", "reference:1", "-t", "oolong/trec_coarse"], "--data FOLDER"),
        (["run", "r.jsonl", "-a", "reference:1", "-t", "records", "-l", "many"], "--length must be like 32K"),
        (["run", "r.jsonl", "-a", "reference:1", "-t", "records", "--price", "x"], "MODEL=INPUT/OUTPUT"),
        (["report", "nowhere.jsonl"], "cannot read results"),
    ],
)
def test_usage_errors_take_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = rlm_eval(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_tasks_command_lists_packed_tasks(tmp_path: Path) -> None:
    done = rlm_eval("tasks", cwd=tmp_path)
    assert "oolong/spam" in done.stdout.splitlines()
