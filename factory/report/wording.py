"""How the report writes numbers."""


def count(value: float) -> str:
    """12345 → 12,345."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """12345 → 12.3k, for key figures."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.1f}{unit}" if scaled < 100 else f"{scaled:.0f}{unit}"
    return count(value)


def percent(part: float, whole: float) -> str:
    """Share of a whole; small ones keep a decimal, and only a true zero reads 0%."""
    if not whole or not part:
        return "0%"
    share = 100 * part / whole
    if share < 0.1:
        return "<0.1%"
    # 999 of 1000 is not all of them.
    return f"{share:.0f}%" if 10 <= share <= 99 or part == whole else f"{min(share, 99.9):.1f}%"


def duration(seconds: float) -> str:
    """8.25 → 8.2 s; 4000 → 1 h 06 min."""
    if seconds < 0.05:
        return "<0.1 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
