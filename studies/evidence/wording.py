"""How the pages of studies/results.md say it: differences, tests, and what a section was measured with."""

import datetime
from collections.abc import Mapping
from importlib.metadata import version

from evidence.comparison import Difference
from rarts_mm.analysis import environment

REFERENCE = "RARTS"
LIBRARIES = ("rarts_mm", "torch", "onedl-mmengine", "onedl-mmpretrain", "scikit-learn")


def measured_with() -> str:
    """The processor, the libraries and the day, as one line."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    device = environment()["device"].removeprefix("cpu: ")
    return f"{device}, one thread per run; {libraries}; {datetime.date.today()}."


def p_value(p: float) -> str:
    """With three digits."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def signed(difference: Difference) -> str:
    """A difference with its interval."""
    return f"{difference.interval.mean:+.2f} ± {difference.interval.half:.2f}"


def verdict(compared: Mapping[str, Difference]) -> str:
    """Which differences to RARTS are significant, in words."""
    shown = {n: d.interval.mean for n, d in compared.items() if d.significant}
    parts = [
        f"{REFERENCE} has a significantly {what} error than {', '.join(names)}."
        for what, names in (
            ("lower", [n for n, mean in shown.items() if mean > 0]),
            ("higher", [n for n, mean in shown.items() if mean < 0]),
        )
        if names
    ]
    rest = [n for n in compared if n not in shown]
    if rest:
        parts.append(f"No significant difference between {REFERENCE} and {', '.join(rest)}.")
    return " ".join(parts)
