"""Contents and sizes of the built distributions, and ``rlm eval`` without its package."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[2]
MAX_BYTES = {
    "documents": 110_000,
    "cli": 45_000,
    "schemas": 30_000,
    "tools": 30_000,
    "report": 25_000,
    "testing": 25_000,
    "views": 25_000,
    "plans": 10_000,
    "": 600_000,
}
"""Sizes in the wheel: of features and front ends in folders of their own, and of everything else, the engine."""
ENTRY_BYTES = 76  # of a file in an archive, besides its content and its name, which stands there twice
HIDE_EVALS = "import sys; sys.modules['rlm_evals'] = None; from rlm.cli.main import main; sys.exit(main(sys.argv[1:]))"


def build(target: str, project: Path, folder: Path) -> Path:
    """Builds a distribution offline and returns its file."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=60)
    (path,) = folder.iterdir()
    return path


def tracked_files() -> set[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return set(listing.stdout.splitlines())


def test_engine_wheel_is_small_without_tasks(tmp_path: Path) -> None:
    wheel = build("wheel", ROOT, tmp_path)
    members = zipfile.ZipFile(wheel).infolist()
    names = [member.filename for member in members]
    sizes = dict.fromkeys(MAX_BYTES, 0)
    for member in members:
        folder = Path(member.filename).parts[1]
        sizes[folder if folder in sizes else ""] += member.compress_size + 2 * len(member.filename) + ENTRY_BYTES
    assert abs(sum(sizes.values()) - wheel.stat().st_size) < 1000, "everything is counted"
    assert {folder: size for folder, size in sizes.items() if size > MAX_BYTES[folder]} == {}
    assert {name.partition("/")[0] for name in names} == {"rlm", "rlm_arbor-0.1.0.dist-info"}
    assert not [name for name in names if "evals" in name or name.endswith((".xz", ".tsv", ".jsonl"))]
    assert {name for name in names if name.startswith("rlm/")} == {
        name for name in tracked_files() if name.startswith("rlm/")
    }


def test_evals_wheel_contains_code_and_data(tmp_path: Path) -> None:
    names = zipfile.ZipFile(build("wheel", ROOT / "evals", tmp_path)).namelist()
    expected = {name.removeprefix("evals/") for name in tracked_files() if name.startswith("evals/rlm_evals/")}
    assert {name for name in names if name.startswith("rlm_evals/")} == expected
    assert sum(name.endswith(".xz") for name in names) == 6


def test_sdist_contains_every_tracked_file(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", ROOT, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked_files() - names == set()


@pytest.mark.parametrize("arguments", [["tasks"], ["run", "r.jsonl", "--arm", "reference:1"], []])
def test_eval_without_package_prints_install_command(arguments: list[str], tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", HIDE_EVALS, "eval", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (shown.returncode, shown.stdout) == (2, "")
    assert len(shown.stderr.splitlines()) == 1
    assert 'pip install "rlm-arbor[evals]"' in shown.stderr
