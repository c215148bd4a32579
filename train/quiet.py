"""Keep third-party chatter off the terminal: bars, notices and warnings nobody here can act on. Errors stay."""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]


@contextmanager
def quiet() -> Generator[None]:
    """Silence logging below ERROR, Python warnings and every tqdm bar while the block runs.

    Heavy libraries may be imported inside, which silences what they say at import.
    """
    level = logging.root.manager.disable
    shown = tqdm.__init__

    def hidden(self: Any, *args: Any, **kwargs: Any) -> None:
        # lm-eval passes `disable=False` and its request builder has no switch at all, so the bar itself is the place.
        shown(self, *args, **{**kwargs, "disable": True})

    logging.disable(logging.WARNING)
    tqdm.__init__ = hidden
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        tqdm.__init__ = shown
        logging.disable(level)
