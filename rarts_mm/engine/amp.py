"""Mixed precision of a search: one autocast type, one loss scaler."""

from collections.abc import Mapping

import torch
from torch import Tensor

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class StaticGradScaler(torch.amp.GradScaler):
    """A loss scaler whose scale stays where it is; steps with infinite gradients are skipped."""

    def update(self, new_scale: float | Tensor | None = None) -> None:
        super().update(self.get_scale() if new_scale is None else new_scale)


def parse_amp(
    amp: dict | None, device: str
) -> tuple[torch.dtype | None, torch.amp.GradScaler | None]:
    """Return the autocast type and the loss scaler that a search's ``amp`` config asks for.

    Args:
        amp: None, or ``dict(dtype='bfloat16' | 'float16', loss_scale='dynamic')``; ``loss_scale`` is
            'dynamic', a number that stays, or a dict of ``torch.amp.GradScaler``'s arguments, and is
            read for float16 alone.
        device: type of the device that computes.

    Raises:
        ValueError: it is no dict; unknown keys, types or scales.
    """
    if amp is None:
        return None, None
    if not isinstance(amp, Mapping):
        raise ValueError(
            f"optim_wrapper.amp={amp!r} must be None (full precision) or a dict such as "
            "dict(dtype='float16'); on a command line --amp, or optim_wrapper.amp.dtype=float16"
        )
    amp = dict(amp)
    name, scale = amp.pop("dtype", "float16"), amp.pop("loss_scale", "dynamic")
    if amp:
        raise ValueError(f"unknown keys in amp: {sorted(amp)}; known are dtype and loss_scale")
    if not isinstance(name, str) or name not in _DTYPES:
        raise ValueError(f"amp.dtype must be one of {sorted(_DTYPES)}, got {name!r}")
    dtype = _DTYPES[name]
    if dtype is not torch.float16:
        return dtype, None
    if scale == "dynamic":
        return dtype, torch.amp.GradScaler(device)
    if isinstance(scale, dict):
        return dtype, torch.amp.GradScaler(device, **scale)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
        raise ValueError(
            "amp.loss_scale must be 'dynamic', a positive number or a dict of GradScaler's "
            f"arguments, got {scale!r}"
        )
    return dtype, StaticGradScaler(device, init_scale=float(scale))
