"""Documents and paths as the context of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

import rlm
from rlm.testing.scripted import ScriptedModel


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("given", ["documents", "path", "paths"])
def test_documents_and_paths_become_context(tmp_path: Path, given: str) -> None:
    for name in ("a.txt", "b.html"):
        (tmp_path / name).write_text(f"<p>text of {name}</p>" if "html" in name else "plain")
    files = [tmp_path / "a.txt", tmp_path / "b.html"]
    contexts = {"documents": rlm.load(*files), "path": tmp_path, "paths": files}
    model = ScriptedModel(lambda _: "```repl\nFINAL(sorted(text.strip() for text in context.values()))\n```")
    with rlm.RLM(model, store=None) as engine:
        assert engine.run("q", contexts[given]).answer == ["plain", "text of b.html"]
        assert engine.start("q", contexts[given]).result().answer == ["plain", "text of b.html"]


def test_text_is_never_taken_for_path(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("secret")
    with rlm.RLM(ScriptedModel(lambda _: "```repl\nFINAL(context)\n```"), store=None) as engine:
        assert engine.run("q", str(tmp_path / "a.txt")).answer == str(tmp_path / "a.txt")
