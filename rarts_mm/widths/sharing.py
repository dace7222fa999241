"""Layers and parameters that a network uses at more than one place."""

from collections import defaultdict
from collections.abc import Iterable

from torch import nn


class Sharing:
    """Where each module and each parameter of a network stands; computed once per network.

    Cutting a layer makes new Parameters. What two places share would become two things then, which
    start alike and are trained apart, and the "smaller" network could have more parameters.

    Args:
        network: Any network.
    """

    def __init__(self, network: nn.Module) -> None:
        self._paths: dict[int, list[str]] = defaultdict(list)
        self._tied: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for path, module in network.named_modules(remove_duplicate=False):
            places = self._paths[id(module)]
            places.append(path)
            if len(places) > 1:
                continue
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    self._tied[id(parameter)].append((id(module), name))

    def places(self, module: nn.Module) -> list[str]:
        """All paths of a module of the network."""
        return self._paths[id(module)]

    def reason(self, host: nn.Module, layers: Iterable[str]) -> str | None:
        """Why layers of ``host`` cannot be cut by themselves, or None.

        A host that stands at several places itself is one host, and cut for all of them.

        Args:
            host: A module of the network.
            layers: Paths in the host of what is cut.
        """
        hosts = self.places(host)
        for layer in layers:
            for below, module in host.get_submodule(layer).named_modules(prefix=layer):
                if not module._parameters:
                    continue
                own = {_join(path, below) for path in hosts}
                if others := [path for path in self.places(module) if path not in own]:
                    return (
                        f"its {below or 'layer'} is used as {others[0]}, too, and cutting it for one "
                        "of the two would cut it for the other"
                    )
                for name, parameter in module._parameters.items():
                    if parameter is None:
                        continue
                    for owner, other in self._tied[id(parameter)]:
                        if (owner, other) != (id(module), name):
                            return (
                                f"its {_join(below, name)} is tied to "
                                f"{_join(self._paths[owner][0], other)}: they are one parameter, and "
                                "cutting one of the two would make them two"
                            )
        return None


def _join(*names: str) -> str:
    return ".".join(filter(None, names))
