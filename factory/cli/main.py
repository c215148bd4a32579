"""`fucina`: the table of commands, and how errors are told."""

import os
import sys

import typer

from fucina.factory.cli import data, look, models
from fucina.factory.errors import FucinaError, from_os_error

INTERRUPTED = 130

app = typer.Typer(
    name="fucina",
    help="Forge post-training data for small language models: prompts in; SFT, DPO, KTO, GRPO sets and models out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data.register(app)
look.register(app)
models.register(app)


def main() -> None:
    """Run a command. Errors that a user can mend are told without a traceback: exit status 1, Ctrl-C 130."""
    try:
        app(standalone_mode=True)
    except FucinaError as error:
        fail(error)
    except OSError as error:
        if error.errno is None:
            raise
        fail(from_os_error(error, "working"))
    except SystemExit as left:
        if left.code == INTERRUPTED:  # typer turns Ctrl-C into this status without a word
            print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def fail(error: FucinaError) -> None:
    """Print an error with its fix and leave."""
    print(f"error: {error.message}", file=sys.stderr)
    if error.fix is not None:
        print(f"  fix: {error.fix}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
