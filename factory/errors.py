"""Errors a user can act on. Everything else is a bug and keeps its traceback."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class FucinaError(Exception):
    """Something the user can mend: `message` says what is wrong, `fix` what to do."""

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return self.message if self.fix is None else f"{self.message}\n  fix: {self.fix}"


class InputError(FucinaError):
    """A file that cannot be read, or a row that makes no sense."""


class RecipeError(FucinaError):
    """A recipe, or a setting of one, that cannot be run."""


class PluginError(FucinaError):
    """No plugin of that name, or one that breaks its protocol."""


class MissingExtraError(FucinaError):
    """A library that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed", f"pip install 'fucina[{extra}]'")


class EngineError(FucinaError):
    """An engine that cannot start or be reached at all. A single failed request is a value, not this."""


class RunError(FucinaError):
    """A run that cannot go on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of `known` was probably meant, or list them all."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}? known: {', '.join(names)}"
    return f"known: {', '.join(names) or 'none'}"


def from_os_error(error: OSError, doing: str) -> FucinaError:
    """Turn an operating-system error into one that says what to do."""
    where = Path(error.filename).name if isinstance(error.filename, str) else ""
    if error.errno == errno.ENOSPC:
        return RunError(
            f"the disk is full while {doing}" + (f" ({where})" if where else ""),
            "free some space and run the same command again: finished shards and answers are kept",
        )
    if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM}:
        return RunError(f"no permission while {doing}: {error}", "choose another output folder with --out")
    return RunError(f"{doing} failed: {error}", None)
