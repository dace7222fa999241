"""A linear layer that insists on weights of its own width."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SlicedLinear(nn.Linear):
    """A linear layer of a pruned network.

    It computes what :class:`torch.nn.Linear` does. Loading a state dict that lacks its weights or
    has them in another shape raises a RuntimeError, also with ``strict=False``: MMEngine loads that
    way and would only warn, leaving random weights.
    """

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
        sliced.train(linear.training)
        return sliced

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            found = state_dict.get(prefix + name)
            if found is None or found.shape != parameter.shape:
                raise RuntimeError(_width_message(prefix + name, parameter.shape, found))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _width_message(name: str, expected: Sequence[int], found: Tensor | None) -> str:
    what = "nothing of that name" if found is None else f"shape {tuple(found.shape)}"
    return (
        f"The pruned layer's {name} has shape {tuple(expected)}, but the checkpoint holds {what}: "
        "config and checkpoint are from different prunings (or the checkpoint is of a network that "
        "was not pruned). Load the checkpoint that was written beside this config, or one trained "
        "from it."
    )
