"""Custom model: logs the prompts of an inner model to a file. Requires no key.

python examples/own_model.py
"""

import tempfile
from pathlib import Path

import rlm
from rlm.testing import ScriptedModel


class LoggingModel:
    """Model wrapper, the pattern for caches, filters and logs."""

    def __init__(self, inner: rlm.Model, log: Path) -> None:
        self._inner = inner
        self._log = log
        self.name = inner.name
        self.window_tokens = inner.info.window_tokens

    async def ask(self, request: rlm.Request) -> rlm.Reply:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(request.messages[-1].text + "\n")
        return await self._inner.ask(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def main() -> None:
    root = ScriptedModel(["```repl\nFINAL(llm_query_batch([f'Is {n} prime?' for n in context]))\n```"])
    leaf = ScriptedModel(lambda request: "yes" if request.messages[-1].text in ("Is 2 prime?", "Is 3 prime?") else "no")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "questions.txt")
        print(rlm.ask("Which are prime?", [1, 2, 3, 4], model=root, sub_model=LoggingModel(leaf, log)))
        print(log.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
