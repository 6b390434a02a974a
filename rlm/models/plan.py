"""Plays a plan through the ``Model`` port: ``plan:map_reduce`` from ``rlm.plans``, or ``plan:/path/to/my_plan.py``.

To the engine a plan is a model like any other. It is stateless here: at each ask its generator is started anew and sent the
observations that the conversation holds, so nothing has to be kept, copied or ended, and a resumed run finds it as it was.
"""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias, cast

from rlm import plans
from rlm.core.errors import ConfigurationError
from rlm.core.messages import Message, Reply, Request, Task, Usage

Replies: TypeAlias = "Generator[str, str, str | None]"
PlanFunction: TypeAlias = "Callable[[Task], Replies | str]"

# A plan reads observations, which the engine keeps short; no conversation comes near this.
WINDOW_TOKENS = 10_000_000


def open_plan(rest: str) -> PlanModel:
    """The plan that ``plan:{rest}`` names.

    Args:
        rest: the name of a plan in ``rlm.plans``, or the path of a Python file that defines ``plan(task)``.

    Raises:
        ConfigurationError: there is no such plan, or its file cannot be used.
    """
    name = rest.strip()
    path = _find(name)
    return PlanModel(f"plan:{path.stem}", _load(path), path)


def known_plans() -> list[str]:
    """The names of the plans that come along."""
    return sorted(module.name for module in pkgutil.iter_modules(plans.__path__))


def _find(name: str) -> Path:
    if name in known_plans():
        return Path(plans.__path__[0]) / f"{name}.py"
    path = Path(name).expanduser().absolute()
    if path.suffix == ".py" and path.is_file():
        return path
    raise ConfigurationError(
        f"There is no plan {name!r}. Known: {', '.join(known_plans())}; or give the path of a Python file that defines "
        "plan(task), for instance plan:./my_plan.py"
    )


def _load(path: Path) -> PlanFunction:
    # A name of its own for each path: dataclasses in the file look their module up.
    module_name = f"rlm_plan_{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise _blame(path, error) from error
    function = getattr(module, "plan", None)
    if not callable(function):
        raise ConfigurationError(f"{path} defines no function plan(task). See rlm.plans for what a plan looks like")
    checked: PlanFunction = function
    return checked


def _blame(path: Path, error: BaseException) -> ConfigurationError:
    """The error for an exception in a plan: file and line of the plan's own code, not of what it called."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    where = f"{path}, line {line}" if line else str(path)
    return ConfigurationError(f"The plan failed: {type(error).__name__}: {error} ({where}). Correct the plan")


@dataclass(frozen=True, slots=True)
class PlanModel:
    """A plan as a model. It costs no tokens; only what its cells ask for does."""

    name: str
    function: PlanFunction
    path: Path

    @property
    def window_tokens(self) -> int:
        return WINDOW_TOKENS

    async def ask(self, request: Request) -> Reply:
        """The plan's next reply, which takes no time worth a thread.

        Raises:
            ConfigurationError: the plan raised, ended without an answer, or does not repeat itself.
        """
        if request.task is None:
            raise ConfigurationError(f"{self.name} can only play a node (model=), not answer plain calls (sub_model=)")
        said, shown = _split(request.messages)
        reply = self._replay(request.task, said, shown)
        return Reply(reply, Usage(calls=1), self.name)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _replay(self, task: Task, said: Sequence[str], shown: Sequence[str]) -> str:
        try:
            replies = _as_generator(self.function(task))
            reply = _advance(replies, None)
            for earlier, observation in zip(said, shown, strict=True):
                if str(reply).strip() != earlier.strip():
                    raise ConfigurationError(
                        f"{self.path} does not repeat itself: replayed with the same observations it gave another reply. "
                        "A plan must depend on its task and observations alone"
                    )
                reply = _advance(replies, observation)
        except ConfigurationError:
            raise
        except Exception as error:
            raise _blame(self.path, error) from error
        if reply is None:
            last = f" It was shown last: {shown[-1][:500]}" if shown else ""
            raise ConfigurationError(
                f"{self.path}: the plan ended after {len(said)} replies without an answer. Its last cell must call FINAL.{last}"
            )
        if not isinstance(reply, str) or not reply.strip():
            raise ConfigurationError(
                f"{self.path}: a plan yields texts; this one yielded {reply!r}. See rlm.plans.cell"
            )
        return reply


def _split(messages: Sequence[Message]) -> tuple[list[str], list[str]]:
    """What the plan has said, and what it was shown after each of its replies."""
    said: list[str] = []
    shown: list[list[str]] = []
    for message in messages:
        if message.role == "assistant":
            said.append(message.content)
            shown.append([])
        elif shown:
            shown[-1].append(message.content)
    return said, ["\n".join(parts) for parts in shown]


def _as_generator(made: Replies | str) -> Replies:
    if isinstance(made, str):
        return _one_reply(made)
    if not inspect.isgenerator(made):
        raise ConfigurationError(f"plan(task) must yield texts or return one; it returned {type(made).__name__}")
    return cast("Replies", made)


def _one_reply(text: str) -> Replies:
    yield text
    return None  # the plan has no more to say


def _advance(replies: Replies, observation: str | None) -> object:
    """The next reply, or None at the end; a user's plan may yield anything. A generator may return its last reply."""
    try:
        return next(replies) if observation is None else replies.send(observation)
    except StopIteration as end:
        value: object = end.value
        return value
