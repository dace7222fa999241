"""Layers that insist on weights of their own width."""

from collections.abc import Sequence

from torch import Tensor, nn


class StrictWidths(nn.Module):
    """A layer of a pruned network.

    Loading a state dict that lacks its weights or has them in another shape raises a RuntimeError, also
    with ``strict=False``: MMEngine loads that way and would only warn, leaving random weights.
    """

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
