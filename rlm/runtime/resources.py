"""Models opened by name, lanes and sandboxes, shared by all ``RLM`` objects of a process and closed at its end."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Hashable, Sequence

from rlm.models.adapt import adapt_model
from rlm.models.registry import open_model, parse_model_name
from rlm.ports import Model, Sandbox
from rlm.runtime.loop import BACKGROUND
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.sandbox import WorkerSandbox
from rlm.scheduler.slots import Lanes


class Resources:
    """The shared models, lanes and sandboxes of a process.

    One client for each provider, key and address keeps connections alive between runs and between ``RLM`` objects. The end of
    the process closes it, even if those objects were not closed.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drops everything in a forked child: the parent's models and sandboxes belong to the parent's event loop."""
        self._lock = threading.Lock()
        self.lanes = Lanes()
        self._models: dict[Hashable, Model] = {}
        self._users: Counter[int] = Counter()
        self._sandboxes: dict[tuple[str, tuple[str, ...]], Sandbox] = {}

    def open_all(
        self, named: Sequence[str | Model], api_key: str | None, base_url: str | None, window_tokens: int | None
    ) -> list[Model]:
        """The models of these names, beside model objects of the caller.

        Key and address belong to the provider of the first name, and are not sent to any other.
        """
        first, models = first_provider(named), list[Model]()
        for model in named:
            if isinstance(model, str):
                key, url = (api_key, base_url) if parse_model_name(model).provider == first else (None, None)
                models.append(self.open(model, key, url, window_tokens))
            else:
                models.append(adapt_model(model))
        return models

    def open(self, name: str, api_key: str | None, base_url: str | None, window_tokens: int | None) -> Model:
        """The model of this name. Match each ``open`` by one ``release``, or by the end of the process."""
        # Keys and addresses also come from the environment, which can change between two calls (tests, notebooks).
        env = {name: value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_BASE_URL"))}
        key = (name, api_key, base_url, window_tokens, frozenset(env.items()))
        fresh = open_model(name, api_key=api_key, base_url=base_url, window_tokens=window_tokens)
        with self._lock:
            model = self._models.setdefault(key, fresh)
            self._users[id(model)] += 1
            return model

    async def release(self, model: Model) -> None:
        """Removes one user; the last one closes the model. Model objects of the caller are not closed."""
        with self._lock:
            self._users[id(model)] -= 1
            left = self._users[id(model)]
            key = next((key for key, shared in self._models.items() if shared is model), None)
            if key is None or left > 0:
                return
            del self._models[key], self._users[id(model)]
        await model.aclose()

    def sandbox(self, name: str, packages: tuple[str, ...] = ()) -> Sandbox:
        """The sandbox of this name with these packages. Its REPLs are isolated from each other."""
        with self._lock:
            key = (name, packages)
            if key not in self._sandboxes:
                self._sandboxes[key] = WorkerSandbox(open_launcher(name, packages=packages, prepare=True))
            return self._sandboxes[key]

    async def aclose(self) -> None:
        """Closes everything at the end of the process."""
        for model in list(self._models.values()):
            await model.aclose()
        for sandbox in list(self._sandboxes.values()):
            await sandbox.aclose()


def first_provider(named: Sequence[str | Model]) -> str | None:
    """The provider of the first model given by name."""
    return next((parse_model_name(model).provider for model in named if isinstance(model, str)), None)


SHARED = Resources()
BACKGROUND.at_end(SHARED.aclose)
os.register_at_fork(after_in_child=SHARED.forget)
