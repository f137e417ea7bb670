"""Numbers as people read them."""

NONE = "\N{EN DASH}"
"""Stands where there is no number."""

MINUS = "\N{MINUS SIGN}"


def number(value: float) -> str:
    """Three significant digits; all digits before the point."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e9 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as m:ss, from one hour on as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def count(amount: int, noun: str) -> str:
    """The amount with its noun in the singular or the plural."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{amount:,} {noun if amount == 1 else plural}"
