"""``rlm eval``: entry point of the evaluation package, which is a distribution of its own.

The package ``rlm_evals`` lives in ``evals/`` of a checkout and installs with the extra ``rlm-arbor[evals]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, cast

from cyclopts import App, Parameter

from rlm.core.errors import MissingExtraError

INSTALL_COMMAND = 'pip install "rlm-arbor[evals]" (from a checkout: pip install . ./evals)'


def _load_app() -> App:
    """Command group of the package, or a stand-in that reports its absence."""
    try:
        return cast(App, import_module("rlm_evals.cli").app)
    except ModuleNotFoundError as error:
        if error.name not in ("rlm_evals", "rlm_evals.cli"):
            raise
        app = App(name="eval", help=f"Compare methods on tasks with exact answers. Requires {INSTALL_COMMAND}.")
        app.default(_report_missing_package)
        return app


def _report_missing_package(
    *_arguments: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
) -> None:
    raise MissingExtraError("rlm eval", INSTALL_COMMAND)


app = _load_app()
