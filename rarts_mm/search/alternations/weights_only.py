"""Training without a search."""

from rarts_mm.registry import ALTERNATIONS

from ..problem import AUXILIARY, PRIMARY
from ..stepper import Stepper
from .base import Alternation


@ALTERNATIONS.register_module()
class WeightsOnly(Alternation):
    """One network's weights on both batches; alpha stays as it is.

    What pruning by random scores or by magnitude starts from (IEEE Access 2022, Table 6, "random"): a
    network trained for as many steps, on the same batches, as by the other alternations.
    """

    players = (AUXILIARY,)
    uses = frozenset({"lam"})

    def __call__(self, s: Stepper) -> None:
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY,), factor=s.lagrangian.lam)
        s.gradients(AUXILIARY, PRIMARY, of=(AUXILIARY,))
        s.descend(AUXILIARY)
