"""``rlm eval``: loads the evaluation package, which is installed separately from the engine.

The package ``rlm_evals`` lives in ``evals/`` of a checkout and in the extra ``rlm-arbor[evals]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from cyclopts import App

from rlm.core.errors import ConfigurationError

INSTALL_HINT = 'install it with: pip install "rlm-arbor[evals]" (in a checkout: pip install ./evals)'


def _load_app() -> App:
    try:
        return cast(App, import_module("rlm_evals.cli").app)
    except ModuleNotFoundError as error:
        if error.name != "rlm_evals":
            raise
        missing = App(name="eval", help="Compare ways of answering on tasks with exact answers.")
        missing.default(_explain_missing_package)
        return missing


def _explain_missing_package(*_words: str) -> None:
    raise ConfigurationError(f"rlm eval needs the package rlm_evals, which is not installed; {INSTALL_HINT}")


app = _load_app()
