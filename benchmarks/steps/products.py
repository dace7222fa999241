"""Multiply-adds of a search step, pass by pass, and which of them make gradients of weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from rarts_mm.models import SearchModel
from rarts_mm.search import AUXILIARY, PRIMARY

_aten = torch.ops.aten
# Products of two matrices: a linear layer's. Those of attention are batches of matrices (bmm).
_MATRIX_PRODUCTS = (_aten.mm, _aten.addmm)


@dataclass
class Pass:
    """A forward pass and the backward pass that follows it, in multiply-adds.

    Attributes:
        network: ``auxiliary`` or ``primary``.
        gradients_of: what required a gradient: ``weights``, ``alpha`` or both.
        forward: of the forward pass.
        backward: of the backward pass, all in all.
        weight_gradients: those of ``backward`` that make gradients of weights.
    """

    network: str
    gradients_of: tuple[str, ...]
    forward: int = 0
    backward: int = 0
    weight_gradients: int = 0

    @property
    def total(self) -> int:
        return self.forward + self.backward


class _Products(TorchDispatchMode):
    """Counts by the formulas of :class:`torch.utils.flop_counter.FlopCounterMode`.

    Except for the backward pass of convolutions: these formulas take the gradient of a grouped
    convolution's weight for that of an ungrouped one.
    """

    def __init__(self, model: SearchModel) -> None:
        super().__init__()
        self.model = model
        self.passes: list[Pass] = []
        self.in_forward = False
        params = list(model.parameters())
        self.weights = {p.untyped_storage().data_ptr() for p in params}
        self.shapes = {tuple(p.shape) for p in params} | {
            tuple(p.t().shape) for p in params if p.dim() == 2
        }

    def begin(self, network: str) -> Callable:
        def hook(module: nn.Module, *_: object) -> None:
            wants = {
                "weights": any(p.requires_grad for p in module.parameters()),
                "alpha": any(a.requires_grad for a in self.model.alpha_parameters().values()),
            }
            self.passes.append(Pass(network, tuple(name for name in wants if wants[name])))
            self.in_forward = True

        return hook

    def end(self, *_: object) -> None:
        self.in_forward = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            # torch counts a multiplication and an addition as two.
            self._add(func.overloadpacket, count, args, kwargs, out)
        return out

    def _add(self, op, count: Callable, args: tuple, kwargs: dict, out) -> None:
        now = self.passes[-1]
        if op is _aten.convolution_backward:
            of_input, of_weight, _ = args[-1]
            # Either gradient has as many products as the convolution itself.
            each = _convolution(*args[:3], transposed=args[7])
            now.backward += each * (of_input + of_weight)
            now.weight_gradients += each * of_weight
            return
        macs = count(*args, **kwargs, out_val=out) // 2
        if self.in_forward:
            now.forward += macs
            return
        now.backward += macs
        if op in _MATRIX_PRODUCTS and self._is_gradient_of_weight(args, out):
            now.weight_gradients += macs

    def _is_gradient_of_weight(self, args: tuple, out: Tensor) -> bool:
        """The gradient of a weight has its shape; that of an activation has a weight as a factor."""
        factors = [a for a in args if isinstance(a, Tensor)]
        reads_weight = any(f.untyped_storage().data_ptr() in self.weights for f in factors)
        return not reads_weight and tuple(out.shape) in self.shapes


def _convolution(gradient: Tensor, x: Tensor, weight: Tensor, transposed: bool) -> int:
    """Multiply-adds of a convolution, from the gradient of its output, its input and its weight."""
    pixels = x if transposed else gradient
    return pixels.numel() * weight[0].numel()


def count_passes(model: SearchModel, step: Callable[[], object]) -> list[Pass]:
    """Perform one step of a search and count its products.

    Counted are convolutions, linear layers and attention products, forward and backward, in
    multiply-adds; nothing that works element by element. Mixed precision must be off: it multiplies
    by copies of the weights, which cannot be told from activations.
    """
    mode, handles = _Products(model), []
    for name in (AUXILIARY, PRIMARY):
        network = getattr(model, name)
        if network is not None:
            handles.append(network.register_forward_pre_hook(mode.begin(name)))
            handles.append(network.register_forward_hook(mode.end))
    try:
        with mode:
            step()
    finally:
        for handle in handles:
            handle.remove()
    return mode.passes
