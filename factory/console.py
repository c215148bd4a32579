"""Progress that people see: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from fucina.factory.progress import Advance


class Console:
    """A rich bar where stderr is a terminal; elsewhere one line every ten seconds, so that logs stay short."""

    @contextmanager
    def task(self, label: str, total: int | None, unit: str = "rows") -> Generator[Advance]:
        """Show `label` while the block runs."""
        if not sys.stderr.isatty():
            yield _LogLines(label, total, unit)
            return
        columns = (
            TextColumn("  {task.description:<28}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[rate]}}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
            task_id = bar.add_task(label, total=total, rate="")

            def advance(steps: int) -> None:
                bar.advance(task_id, steps)
                elapsed = bar.tasks[0].elapsed
                bar.update(task_id, rate=f"{bar.tasks[0].completed / elapsed:,.1f}/s" if elapsed else "")

            yield advance


class _LogLines:
    """Counts, and prints a line when ten seconds have passed since the last."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._start = self._last = time.monotonic()

    def __call__(self, steps: int) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last < 10:
            return
        self._last = now
        rate = self._done / (now - self._start)
        left = "" if not self._total or not rate else f", {(self._total - self._done) / rate:.0f} s left"
        of = "" if self._total is None else f"/{self._total}"
        print(f"  {self._label}: {self._done}{of} {self._unit}, {rate:,.1f}/s{left}", file=sys.stderr)
