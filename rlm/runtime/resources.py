"""What all ``RLM`` objects of a process share: models opened by name, and sandboxes. Closed at the end of the process."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Hashable, Sequence

from rlm.models.registry import open_model, parse_model_name
from rlm.ports import Model, Sandbox
from rlm.runtime.loop import BACKGROUND
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.sandbox import WorkerSandbox


class Resources:
    """What all objects of the process share: models opened by name, and sandboxes.

    One client for each provider, key and address keeps connections alive between runs, however many ``RLM`` objects come and
    go; and the end of the process closes it, whether or not they were closed.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begins anew, in a forked child: what the parent shares lives on the parent's loop and stays with it."""
        self._lock = threading.Lock()
        self._models: dict[Hashable, Model] = {}
        self._users: Counter[int] = Counter()
        self._sandboxes: dict[tuple[str, tuple[str, ...]], Sandbox] = {}

    def open_all(
        self, named: Sequence[str | Model], api_key: str | None, base_url: str | None, window_tokens: int | None
    ) -> list[Model]:
        """The models of these names, and those that the caller made himself.

        Key and address are those of the first name's provider: they belong to one, and must not be shown to another.
        """
        first, models = first_provider(named), list[Model]()
        for each in named:
            if isinstance(each, str):
                key, url = (api_key, base_url) if parse_model_name(each).provider == first else (None, None)
                models.append(self.open(each, key, url, window_tokens))
            else:
                models.append(each)
        return models

    def open(self, name: str, api_key: str | None, base_url: str | None, window_tokens: int | None) -> Model:
        """The model of this name; each ``open`` is matched by one ``release``, or by the end of the process."""
        # The environment decides keys and addresses too, and may change between two calls (tests, notebooks).
        env = {name: value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_BASE_URL"))}
        key = (name, api_key, base_url, window_tokens, frozenset(env.items()))
        fresh = open_model(name, api_key=api_key, base_url=base_url, window_tokens=window_tokens)
        with self._lock:
            model = self._models.setdefault(key, fresh)
            self._users[id(model)] += 1
            return model

    async def release(self, model: Model) -> None:
        """One user less; the last one closes it. A model that the caller made himself is left alone."""
        with self._lock:
            self._users[id(model)] -= 1
            left = self._users[id(model)]
            key = next((key for key, shared in self._models.items() if shared is model), None)
            if key is None or left > 0:
                return
            del self._models[key], self._users[id(model)]
        await model.aclose()

    def sandbox(self, name: str, packages: tuple[str, ...] = ()) -> Sandbox:
        """The one sandbox of this name and these packages: its REPLs are apart from each other, whoever uses them."""
        with self._lock:
            key = (name, packages)
            if key not in self._sandboxes:
                self._sandboxes[key] = WorkerSandbox(open_launcher(name, packages=packages, prepare=True))
            return self._sandboxes[key]

    async def aclose(self) -> None:
        """Closes everything, at the end of the process."""
        for model in list(self._models.values()):
            await model.aclose()
        for sandbox in list(self._sandboxes.values()):
            await sandbox.aclose()


def first_provider(named: Sequence[str | Model]) -> str | None:
    return next((parse_model_name(each).provider for each in named if isinstance(each, str)), None)


SHARED = Resources()
BACKGROUND.at_end(SHARED.aclose)
os.register_at_fork(after_in_child=SHARED.forget)
