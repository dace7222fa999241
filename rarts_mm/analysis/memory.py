"""How much memory a search needs, before it starts."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

GIB = 2**30


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a search's networks and optimisers, in bytes; activations come on top.

    Attributes:
        weights: Player -> its parameters.
        states: Player -> states of its optimiser, once it has stepped.
        gradients: Gradients that are there at one time: the largest player's, or all of them.
        copies: Copies of weights that a step holds besides.
        available: Free memory of the device, before anything that has yet to be put there; None
            where it cannot be found out.
        device: Where the players are.
    """

    weights: dict[str, int]
    states: dict[str, int]
    gradients: int
    copies: int
    available: int | None
    device: str

    @property
    def total(self) -> int:
        """Weights, gradients, copies and optimiser states."""
        weights = sum(self.weights.values()) + self.copies
        return weights + sum(self.states.values()) + self.gradients

    @property
    def to_come(self) -> int:
        """What is still to be allocated: the weights are there."""
        return self.total - sum(self.weights.values())

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {_gib(self.weights[name])} + {_gib(self.states[name])} optimiser states"
            for name in self.weights
        )
        copies = f", copies of weights {_gib(self.copies)}" if self.copies else ""
        text = (
            f"memory of the search: {_gib(self.total)} for weights, gradients and optimiser states "
            f"({parts}, gradients at one time {_gib(self.gradients)}{copies}); activations "
            "come on top. "
        )
        if self.available is None:
            return text + f"How much is free on {self.device} could not be found out."
        text += f"Free on {self.device} now, the weights being there: {_gib(self.available)}."
        if self.to_come > self.available:
            text += (
                f" This is NOT ENOUGH: {_gib(self.to_come)} are still to come before activations. "
                "Use a larger device, a smaller model or an optimiser with fewer states."
            )
        return text


def estimate_search_memory(
    players: Mapping[str, tuple[Sequence[Tensor], Optimizer]],
    at_once: bool = False,
    copies: int = 0,
) -> MemoryEstimate:
    """Estimate what weights, gradients and optimiser states of a search need.

    The optimiser states are measured: an optimiser of the same class and settings makes one step
    with a small tensor, and its states are counted.

    Args:
        players: Name (``auxiliary``, ``primary``, ``alpha``) -> its parameters and optimiser.
        at_once: Whether all players hold gradients at the same time.
        copies: How many copies of the largest player's weights a step holds.

    Raises:
        ValueError: There are no players, or they have no parameters.
    """
    parameters = {name: _distinct(params) for name, (params, _) in players.items()}
    everything = [p for params in parameters.values() for p in params]
    if not everything:
        raise ValueError("There are no parameters to estimate the memory of.")
    device = everything[0].device
    trained = {name: _bytes(p for p in ps if p.requires_grad) for name, ps in parameters.items()}
    return MemoryEstimate(
        weights={name: _bytes(params) for name, params in parameters.items()},
        states={name: _state_bytes(optimizer) for name, (_, optimizer) in players.items()},
        gradients=sum(trained.values()) if at_once else max(trained.values()),
        copies=copies * max(trained.values()),
        available=_available(device),
        device=_device_name(device),
    )


def _distinct(params: Sequence[Tensor]) -> list[Tensor]:
    return list({id(p): p for p in params}.values())


def _bytes(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _state_bytes(optimizer: Optimizer) -> int:
    """Bytes of an optimiser's states after its first step."""
    total = 0
    for group in optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        # States follow the type and place of their parameter.
        by_type: dict[tuple, list[Tensor]] = {}
        for p in group["params"]:
            if p.requires_grad:
                by_type.setdefault((p.dtype, p.device), []).append(p)
        for (dtype, device), params in by_type.items():
            per_element, per_tensor = _states_of_one(optimizer, settings, dtype, device)
            total += round(per_element * sum(p.numel() for p in params)) + per_tensor * len(params)
    return total


def _states_of_one(
    optimizer: Optimizer, settings: dict, dtype: torch.dtype, device: torch.device
) -> tuple[float, int]:
    """Bytes of states per element of a parameter, and per parameter (counters of steps)."""
    cls = type(optimizer)
    tiny = torch.nn.Parameter(torch.zeros(16, 16, dtype=dtype, device=device))
    # Some keep settings among the defaults that their constructor does not take.
    known = inspect.signature(cls).parameters
    defaults = {key: value for key, value in optimizer.defaults.items() if key in known}
    copy = cls([{"params": [tiny], **settings}], **defaults)

    def closure() -> Tensor:
        tiny.grad = torch.ones_like(tiny)
        return tiny.detach().sum()

    # With the gradient set and a closure as well, every optimiser of torch can step.
    closure()
    copy.step(closure)
    elements, tensors = 0, 0
    for state in copy.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                size = value.numel() * value.element_size()
                if value.numel() == 1:
                    tensors += size
                else:
                    elements += size
    return elements / tiny.numel(), tensors


def _available(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this operating system
        return None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB / 100 else f"{size / 2**20:.2f} MiB"
