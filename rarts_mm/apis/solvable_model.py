"""Searches on the model that can be solved by hand, asked for by name."""

import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

from rarts_mm.analysis.trajectories import plot_trajectories, solvable_panels
from rarts_mm.registry import ALTERNATIONS
from rarts_mm.search import PRIMARY, Alternation, Lagrangian, Point, SolvableModel
from rarts_mm.search.solvable import START, closed_form, search

from .errors import UsageError

# As in the papers' figure; the package's own defaults (1 and 0.1) have no limit on this model.
LAM = BETA = 10.0


def solve_model(
    alternation: str,
    steps: int = 20000,
    start: Sequence[float] | None = None,
    eta: float = 0.01,
    momentum: float = 0.0,
    **options: Any,
) -> dict[str, Any]:
    """Run an alternation on the solvable model (thesis, Example 2.4); return where it ends.

    Args:
        alternation: a registered name, whatever its case, with or without hyphens.
        steps: the most steps to take.
        start: (alpha, w, u), or (alpha, w) where there is one network.
        eta, momentum: of SGD for alpha, w and u.
        options: ``lam``, ``beta``, ``coupling`` (see :class:`~rarts_mm.search.Lagrangian`), ``xi``,
            ``derivative`` and ``first`` (see the alternations). None stands for the default; one
            that the alternation does not have is an error.

    Returns:
        What can be written as JSON: numbers that are not finite are None.

    Raises:
        UsageError: the name is unknown, or an option does not apply to it.
        ValueError: a value is outside its range.
    """
    options = {name: value for name, value in options.items() if value is not None}
    kind = _kind(alternation)
    own = set(inspect.signature(kind).parameters) if kind.__init__ is not object.__init__ else set()
    weights = kind.uses | ({"coupling"} if "beta" in kind.uses else set())
    for name in options:
        if name not in own | weights:
            known = ", ".join(f"--{x}" for x in sorted(own | weights)) or "none of these options"
            raise UsageError(
                f"--{name} {options[name]} does not apply to {kind.__name__}, which has {known}; "
                f"leave --{name} out"
            )
    rule = kind(**{name: options[name] for name in own & set(options)})
    lagrangian = Lagrangian(
        lam=options.get("lam", LAM),
        beta=options.get("beta", BETA if "beta" in kind.uses else 0.0),
        coupling=options.get("coupling", "gradient"),
    )
    first = _start(start, kind)
    end = search(rule, lagrangian, steps, SolvableModel(first, eta, momentum))
    wanted = closed_form(rule, lagrangian, SolvableModel(first, eta, momentum))
    settings = {name: getattr(lagrangian, name) for name in sorted(weights)}
    return _finite(
        dict(
            alternation=kind.__name__,
            **settings,
            **{name: getattr(rule, name) for name in sorted(own)},
            eta=eta,
            momentum=momentum,
            start=vars(first),
            **vars(end.point),
            lagrangian=end.lagrangian,
            residuals=end.residuals,
            converged=end.converged,
            diverged=end.diverged,
            steps=end.steps,
            closed_form=None if wanted is None else vars(wanted),
        )
    )


def draw_model(
    path: str | Path,
    lam: float | None = None,
    beta: float | None = None,
    eta: float = 0.01,
    start: Sequence[float] | None = None,
) -> None:
    """Draw the searches' ways on the solvable model (IEEE Access 2022, Fig. 1; thesis, Fig. 2.1).

    Args:
        path: the picture, its format by its suffix.
        lam, beta: around which lambda and beta vary; None: 10, as in the papers.
        eta: learning rate.
        start: (alpha, w) or (alpha, w, u); None: the papers' (2, -2, 0).
    """
    first = START if start is None else Point(*start, *((0.0,) if len(start) == 2 else ()))
    panels = solvable_panels(
        LAM if lam is None else lam, BETA if beta is None else beta, eta, first
    )
    plot_trajectories(panels, path)


def check_picture(path: str | Path) -> None:
    """Raise :class:`UsageError` if no picture can be written there."""
    suffix = Path(path).suffix.lower().lstrip(".")
    known = sorted(FigureCanvasAgg.filetypes)
    if suffix not in known:
        raise UsageError(
            f"--plot {path}: a picture cannot be written as {suffix or 'a file without suffix'!r}; "
            f"use one of {', '.join(known)}"
        )
    if Path(path).is_dir():
        raise UsageError(f"--plot {path} is a folder; give the name of a file")


def _kind(name: str) -> type[Alternation]:
    kinds = {_plain(known): kind for known, kind in ALTERNATIONS.module_dict.items()}
    if _plain(name) not in kinds:
        raise UsageError(
            f"--alternation {name} is unknown; use one of "
            f"{', '.join(sorted(known.lower() for known in ALTERNATIONS.module_dict))}"
        )
    return kinds[_plain(name)]


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _start(values: Sequence[float] | None, kind: type[Alternation]) -> Point:
    networks = 2 if PRIMARY in kind.players else 1
    if values is None:
        return START if networks == 2 else Point(START.alpha, START.w, None)
    text = " ".join(f"{x:g}" for x in values)
    if len(values) != 1 + networks:
        wanted = "ALPHA W U" if networks == 2 else "ALPHA W (there is no u)"
        raise UsageError(f"--start {text}: {kind.__name__} takes {wanted}")
    if not all(map(math.isfinite, values)):
        raise UsageError(f"--start {text}: give finite numbers, as 2 -2 0")
    return Point(*values) if networks == 2 else Point(*values, None)


def _finite(value: Any) -> Any:
    """JSON knows neither infinity nor NaN."""
    if isinstance(value, Mapping):
        return {name: _finite(x) for name, x in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
