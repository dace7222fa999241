"""A linear layer of a pruned network."""

import torch
from torch import Tensor, nn

from .strict_loading import StrictWidths


class SlicedLinear(StrictWidths, nn.Linear):
    """A linear layer of a pruned network; it computes what :class:`torch.nn.Linear` does."""

    @classmethod
    def cut(
        cls,
        linear: nn.Linear,
        rows: Tensor | None = None,
        columns: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> "SlicedLinear":
        """Keep some outputs and inputs of ``linear``.

        Args:
            linear: The layer to cut. It is not changed.
            rows: (kept outputs,) indices, all when None.
            columns: (kept inputs,) indices, all when None.
            scale: (kept outputs,) factors folded into the kept rows of weight *and* bias.

        Returns:
            A layer with Parameters of its own, trainable where those of ``linear`` are.
        """
        with torch.no_grad():
            weight, bias = linear.weight, linear.bias
            if rows is not None:
                weight = weight[rows]
                bias = None if bias is None else bias[rows]
            if columns is not None:
                weight = weight[:, columns]
            if scale is not None:
                weight = weight * scale[:, None]
                bias = None if bias is None else bias * scale
            sliced = cls(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
            sliced.weight = nn.Parameter(
                weight.clone().contiguous(), requires_grad=linear.weight.requires_grad
            )
            if bias is not None:
                sliced.bias = nn.Parameter(bias.clone(), requires_grad=linear.bias.requires_grad)
        sliced.outputs_cut = rows is not None or getattr(linear, "outputs_cut", False)
        sliced.train(linear.training)
        return sliced
