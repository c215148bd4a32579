"""Loading and saving with transformers, without its bars: they would run across ours."""

from collections.abc import Generator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def bars_hidden() -> Generator[None]:
    """Hide the progress bars of transformers while the block runs."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
