"""The NATS-Bench topology space: its alpha, and the architecture that alpha stands for."""

from collections.abc import Mapping

from torch import Tensor

from rarts_mm.registry import SPACES

from ..space import TopologySpace
from .architecture import EDGES, NATSArchitecture
from .network import CELL, NATSSearchNetwork
from .operations import NATS_OPERATIONS


@SPACES.register_module()
class NATSSpace(TopologySpace):
    """Alpha weighs the operations on the six edges of the one kind of cell: 6 x 5, named ``'cell'``.

    The arguments are those of :class:`~rarts_mm.cells.space.TopologySpace`.
    """

    network = NATSSearchNetwork

    def derive(self, alphas: Mapping[str, Tensor]) -> NATSArchitecture:
        """The strongest operation of every edge, ``none`` included; of equals the first.

        Raises:
            ValueError: no alpha ``'cell'``, one of another shape, or a weight that is no number.
        """
        alpha = alphas.get(CELL)
        shape = (len(EDGES), len(NATS_OPERATIONS))
        if alpha is None or tuple(alpha.shape) != shape:
            found = None if alpha is None else tuple(alpha.shape)
            raise ValueError(
                f"no architecture without an alpha {CELL!r} of shape {shape}; got {found} among "
                f"{sorted(alphas)}"
            )
        # In float64, so that weights near 1 still differ.
        scores = self.relaxation.scores(alpha.detach().to("cpu").double())
        for (node, source), row in zip(EDGES, scores, strict=True):
            if not row.isfinite().all():
                raise ValueError(
                    f"alpha {CELL!r}, node {node}, edge from {source}: weights {row.tolist()}; nothing "
                    "can be derived from them"
                )
        rows = scores.tolist()
        return NATSArchitecture(tuple(NATS_OPERATIONS[row.index(max(row))] for row in rows))
