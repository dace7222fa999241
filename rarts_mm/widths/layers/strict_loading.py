"""Layers that insist on weights of their own width."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class StrictWidths(nn.Module):
    """A layer of a pruned network.

    Loading a state dict that lacks its weights or has them in another shape raises a RuntimeError, also
    with ``strict=False``: MMEngine loads that way and would only warn, leaving random weights.

    That is for the widths that were cut. A layer whose outputs are not, such as the last one of a head,
    may have another number of them than the checkpoint, or nothing in it: it is a new head, which
    keeps its initialisation and is warned of as MMEngine does.

    Attributes:
        outputs_cut: Whether the outputs have been cut; else only the inputs have.
    """

    outputs_cut: bool = True

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            found = state_dict.get(prefix + name)
            fits = found is not None and found.shape == parameter.shape
            if not fits and not self._is_new_head(state_dict, prefix):
                raise RuntimeError(_width_message(prefix + name, parameter.shape, found))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _is_new_head(self, state_dict: Mapping[str, Tensor], prefix: str) -> bool:
        """Whether a state dict lacks the layer, or fits it in all but the number of outputs."""
        if self.outputs_cut:
            return False
        found = state_dict.get(f"{prefix}weight")
        if found is None:
            return True
        dim = 1 if isinstance(self, nn.ConvTranspose2d) else 0
        shapes = [list(shape) for shape in (found.shape, self.weight.shape)]
        if len(shapes[0]) <= dim:
            return False
        for shape in shapes:
            del shape[dim]
        return shapes[0] == shapes[1]


def _width_message(name: str, expected: Sequence[int], found: Tensor | None) -> str:
    what = "nothing of that name" if found is None else f"shape {tuple(found.shape)}"
    return (
        f"The pruned layer's {name} has shape {tuple(expected)}, but the checkpoint holds {what}: "
        "config and checkpoint are from different prunings (or the checkpoint is of a network that "
        "was not pruned). Load the checkpoint that was written beside this config, or one trained "
        "from it."
    )


def require_widths(network: nn.Module, cuts: Sequence[Any]) -> None:
    """Let a network that was cut by groups of channels refuse weights of other widths.

    Only where it was cut: a layer with other outputs, such as a head of other classes, is new.

    Args:
        cuts: with ``groups``, each of which has ``places``: (parameter, dimension).
    """
    places = {place for cut in cuts for group in cut.groups.values() for place in group.places}

    def check(module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: object) -> None:
        own = module.state_dict()
        for name, dim in places:
            found, wanted = state_dict.get(prefix + name), own.get(name)
            if wanted is None:
                continue
            if (
                found is None
                or found.dim() != wanted.dim()
                or found.shape[dim] != wanted.shape[dim]
            ):
                raise RuntimeError(_width_message(prefix + name, wanted.shape, found))

    network.register_load_state_dict_pre_hook(check)
