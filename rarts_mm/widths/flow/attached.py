"""The groups of channels that a network's scores are on."""

from torch import nn

from .groups import Groups

_NAME = "channel_groups"


def attach(network: nn.Module, groups: Groups) -> None:
    """Let a network know what its scores are on."""
    network.__dict__[_NAME] = groups


def attached(network: nn.Module) -> Groups | None:
    """What :func:`attach` has given; None where it has not."""
    return network.__dict__.get(_NAME)


def detach(network: nn.Module) -> None:
    """Let it know nothing any more."""
    network.__dict__.pop(_NAME, None)
