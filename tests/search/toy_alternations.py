"""Every alternation beside its printed formula."""

from collections.abc import Callable
from dataclasses import dataclass

from rarts_mm.search import (
    DARTS1,
    DARTS2,
    RARTS,
    Alternation,
    Joint,
    MiLeNAS,
    RARTSJacobi,
    WeightsOnly,
)

from . import toy
from .toy import Plain


@dataclass(frozen=True)
class Case:
    rule: Alternation
    plain: Callable[[Plain], None]


CASES = {
    "rarts": Case(RARTS(), toy.rarts),
    "rarts-jacobi": Case(RARTSJacobi(), toy.rarts_jacobi),
    "darts1": Case(DARTS1(), toy.darts1),
    "darts1, alpha first": Case(DARTS1(first="alpha"), toy.darts1_alpha_first),
    "darts2": Case(DARTS2(), toy.darts2(None, exact=False)),
    "darts2, xi": Case(DARTS2(xi=0.3), toy.darts2(0.3, exact=False)),
    "darts2, exact": Case(DARTS2(derivative="exact"), toy.darts2(None, exact=True)),
    "darts2, exact, xi": Case(DARTS2(0.3, "exact"), toy.darts2(0.3, exact=True)),
    "darts2, exact, alpha first": Case(
        DARTS2(derivative="exact", first="alpha"), toy.darts2(None, exact=True, w_first=False)
    ),
    "darts2, alpha first": Case(
        DARTS2(0.3, first="alpha"), toy.darts2(0.3, exact=False, w_first=False)
    ),
    "milenas": Case(MiLeNAS(), toy.milenas),
    "joint": Case(Joint(), toy.joint),
    "weights-only": Case(WeightsOnly(), toy.weights_only),
}
