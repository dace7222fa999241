"""Layers of a host that somebody outside of it reads: found by running the network."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .adapters.base import WidthAdapter
from .running import ProofError, evaluation_copy, random_images

# Whose code is known not to reach into the hosts that adapters know; searching there would only take
# time.
_KNOWN = {"mmcv", "mmdet", "mmengine", "mmpretrain", "rarts_mm", "timm", "torch", "torchvision"}

Place = tuple[str, WidthAdapter]


def read_outside(network: nn.Module, places: Sequence[Place]) -> dict[int, str]:
    """Which hosts have layers that are used while the host itself is not running.

    Such a layer is written or read by others, whom its adapter knows nothing of. A copy of the network
    runs once on random images, as far as that is possible with images alone; what did not run is not
    found here, and left to the proof.

    Args:
        network: Any network; not changed. One that consists of the libraries' modules is not run.
        places: Path of the host and its adapter.

    Returns:
        Number of the place -> the reason.
    """
    if all(type(m).__module__.partition(".")[0] in _KNOWN for m in network.modules()):
        return {}
    # A host that is a whole network may be run by other methods than its forward.
    numbers = [i for i, (_, adapter) in enumerate(places) if not adapter.spanning]
    if not numbers:
        return {}
    copied = evaluation_copy(network, torch.float32)
    watch = _Watch(type(network).__name__)
    for number in numbers:
        path, adapter = places[number]
        host = copied.get_submodule(path)
        for layer in adapter.cut(host):
            watch.add(number, host, layer)
    for forward in (_whole, _without_samples, _features, _backbone):
        try:
            image, *_ = random_images(copied, None, forward)
        except ProofError:
            continue
        with torch.no_grad(), _following(copied, watch.running), watch:
            forward(copied, image)
        return watch.found
    return {}


def _whole(network: nn.Module, images: Tensor) -> Any:
    return network(images)


def _without_samples(network: nn.Module, images: Tensor) -> Any:
    return network(images, None)


def _features(network: nn.Module, images: Tensor) -> Any:
    return network.extract_feat(images)


def _backbone(network: nn.Module, images: Tensor) -> Any:
    return network.backbone(images)


class _Watch(TorchFunctionMode):
    """Sees every operation, and whether it reads a watched parameter while no host of it runs."""

    def __init__(self, network: str) -> None:
        super().__init__()
        self.network = network
        self.running: list[nn.Module] = []
        self.found: dict[int, str] = {}
        self._watched: dict[int, list[tuple[int, nn.Module, str]]] = {}
        self._inside: dict[int, set[int]] = {}

    def add(self, number: int, host: nn.Module, layer: str) -> None:
        """Watch the parameters of a layer of a host."""
        module = host.get_submodule(layer)
        self._inside.setdefault(number, set()).update(id(m) for m in host.modules())
        for name, parameter in module.named_parameters(prefix=layer):
            path = name.rpartition(".")[0]
            self._watched.setdefault(id(parameter), []).append((number, host, path))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        # Its shape, or whether it needs a gradient, may be anybody's business.
        if any(True for _ in _tensors((out,))):
            for tensor in _tensors((args, kwargs)):
                for number, host, layer in self._watched.get(id(tensor), ()):
                    if not any(module is host for module in self.running):
                        self.found.setdefault(number, self._reason(number, layer))
        return out

    def _reason(self, number: int, layer: str) -> str:
        inside = self._inside[number]
        reader = next((m for m in reversed(self.running) if id(m) not in inside), None)
        name = self.network if reader is None else type(reader).__name__
        return (
            f"its {layer or 'layer'} is used outside of it, by {name}, which may need all of the "
            "channels there"
        )


def _tensors(item: Any) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, dict):
        yield from _tensors(tuple(item.values()))
    elif isinstance(item, list | tuple):
        for one in item:
            yield from _tensors(one)


@contextmanager
def _following(network: nn.Module, running: list[nn.Module]) -> Iterator[None]:
    """Within the context, ``running`` holds the modules whose forward runs, outermost first."""
    modules = list(network.modules())
    before = [vars(module).get("forward") for module in modules]
    # Not by hooks: a module may also be run by its forward.
    for module in modules:
        module.forward = functools.partial(_followed, module, module.forward, running)
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            if own is None:
                del module.forward
            else:
                module.forward = own


def _followed(module: nn.Module, forward: Any, running: list[nn.Module], *args, **kwargs) -> Any:
    running.append(module)
    try:
        return forward(*args, **kwargs)
    finally:
        running.pop()
