"""Plans as models: ``plan:map_reduce`` from ``rlm.plans``, or ``plan:/path/to/my_plan.py``.

To the engine a plan is a model like any other. It is stateless: each ``ask`` starts its generator from the beginning and sends it
the observations in the conversation. So a resumed run needs no state of it.
"""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias, cast

from rlm import plans
from rlm.core.errors import ConfigurationError
from rlm.core.messages import Message, Reply, Request, Task, Usage
from rlm.core.model_info import ModelInfo
from rlm.core.values import frozen

Replies: TypeAlias = "Generator[str, str, str | None]"
PlanFunction: TypeAlias = "Callable[[Task], Replies | str]"

# A plan reads observations, which the engine truncates; no conversation comes near this.
INFO = ModelInfo(window_tokens=10_000_000, images=True)


def open_plan(rest: str) -> PlanModel:
    """Opens the plan named ``plan:{rest}``.

    Args:
        rest: the name of a plan in ``rlm.plans``, or the path of a Python file that defines ``plan(task)``.

    Raises:
        ConfigurationError: no such plan exists, or its file is not usable.
    """
    name = rest.strip()
    path = _find(name)
    return PlanModel(f"plan:{path.stem}", _load(path), path)


def known_plans() -> list[str]:
    """The names of the built-in plans."""
    return sorted(module.name for module in pkgutil.iter_modules(plans.__path__))


def _find(name: str) -> Path:
    if name in known_plans():
        return Path(plans.__path__[0]) / f"{name}.py"
    path = Path(name).expanduser().absolute()
    if path.suffix == ".py" and path.is_file():
        return path
    raise ConfigurationError(
        f"a plan must be one of {', '.join(known_plans())}, or a Python file that defines plan(task); got {name!r}. "
        "Give a file by its path, for instance plan:./my_plan.py"
    )


def _load(path: Path) -> PlanFunction:
    # A module name per path: dataclasses in the file look up their module by name.
    module_name = f"rlm_plan_{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} cannot be loaded as a Python file. Check its name and contents")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise _blame(path, error) from error
    function = getattr(module, "plan", None)
    if not callable(function):
        raise ConfigurationError(f"{path} must define a function plan(task). See rlm.plans for an example")
    checked: PlanFunction = function
    return checked


def _blame(path: Path, error: BaseException) -> ConfigurationError:
    """The error for an exception in a plan, with the file and line of the plan's own code."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    place = f"{path}, line {line}" if line else str(path)
    return ConfigurationError(f"the plan failed: {type(error).__name__}: {error} ({place}). Correct the plan")


@frozen
class PlanModel:
    """A plan as a model. It costs no tokens itself; its sub-calls do."""

    name: str
    function: PlanFunction
    path: Path

    @property
    def info(self) -> ModelInfo:
        return INFO

    async def ask(self, request: Request) -> Reply:
        """The plan's next reply. It reads the text of observations, not their images.

        Raises:
            ConfigurationError: the plan raised, ended without an answer, or is not deterministic.
        """
        if request.task is None:
            raise ConfigurationError(
                f"{self.name} must be used as `model`, not as `sub_model`: a plan drives a node and cannot answer plain calls"
            )
        replies, observations = _split(request.messages[request.task.earlier_messages :])
        reply = self._replay(request.task, replies, observations)
        return Reply(reply, Usage(calls=1), self.name)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _replay(self, task: Task, earlier: Sequence[str], observations: Sequence[str]) -> str:
        try:
            replies = _as_generator(self.function(task))
            reply = _advance(replies, None)
            for expected, observation in zip(earlier, observations, strict=True):
                if str(reply).strip() != expected.strip():
                    raise ConfigurationError(
                        f"{self.path} must be deterministic; replayed with the same observations it gave another reply. "
                        "Make the plan depend on its task and observations only"
                    )
                reply = _advance(replies, observation)
        except ConfigurationError:
            raise
        except Exception as error:
            raise _blame(self.path, error) from error
        if reply is None:
            last = f" The last observation was: {observations[-1][:500]}" if observations else ""
            raise ConfigurationError(
                f"{self.path}: the plan ended after {len(earlier)} replies without an answer. "
                f"Its last cell must call FINAL.{last}"
            )
        if not isinstance(reply, str) or not reply.strip():
            raise ConfigurationError(
                f"{self.path}: a plan must yield non-empty text; got {reply!r}. See rlm.plans.cell"
            )
        return reply


def _split(messages: Sequence[Message]) -> tuple[list[str], list[str]]:
    """The plan's earlier replies, and the observation after each of them."""
    replies: list[str] = []
    observations: list[list[str]] = []
    for message in messages:
        if message.role == "assistant":
            replies.append(message.text)
            observations.append([])
        elif observations:
            observations[-1].append(message.text)
    return replies, ["\n".join(texts) for texts in observations]


def _as_generator(result: Replies | str) -> Replies:
    if isinstance(result, str):
        return _one_reply(result)
    if not inspect.isgenerator(result):
        raise ConfigurationError(f"plan(task) must yield texts, or return one; got {type(result).__name__}")
    return cast("Replies", result)


def _one_reply(text: str) -> Replies:
    yield text
    return None  # the plan has ended


def _advance(replies: Replies, observation: str | None) -> object:
    """The next reply, or None at the end. A generator can return its last reply; a user's plan can yield anything."""
    try:
        return next(replies) if observation is None else replies.send(observation)
    except StopIteration as end:
        value: object = end.value
        return value
