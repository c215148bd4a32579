"""Commands that make models: train, fuse, evaluate."""

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
