"""MMEngine's own loading, through this package's reader.

The Runner, ``init_cfg=dict(type='Pretrained')`` and the libraries' models ask MMEngine's
``CheckpointLoader``, which reads a file as a program where it cannot be read as data.
"""

from collections.abc import Callable
from typing import Any

from mmengine.runner import CheckpointLoader

from .downloads import CLASSIFIERS
from .reading import read_checkpoint
from .trust import is_trusting


def read_for_mmengine() -> None:
    """Let MMEngine load every checkpoint of this process by :func:`read_checkpoint`."""
    # All there are, not a list of ours: no other way remains.
    for scheme in [*CheckpointLoader._schemes]:
        loader = load_from_mmcls if scheme == CLASSIFIERS else load_from_checked
        CheckpointLoader.register_scheme(scheme, loader, force=True)


# MMEngine logs the names of loaders, from the tenth letter on.
def load_from_checked(
    filename: str, map_location: str | Callable | None = None, **_: object
) -> dict[str, Any]:
    """Read any checkpoint that MMEngine is asked for."""
    checkpoint = read_checkpoint(filename, map_location)
    meta = checkpoint.get("meta")
    # Text that the Runner would run as a config on resuming, to look for a key of the years before 2022.
    if isinstance(meta, dict) and not is_trusting():
        meta.pop("config", None)
    return checkpoint


def load_from_mmcls(
    filename: str, map_location: str | Callable | None = None, **_: object
) -> dict[str, Any]:
    """Read the backbone of a classifier of the model zoo, as MMEngine does."""
    checkpoint = load_from_checked(filename, map_location)
    state, prefix = checkpoint.get("state_dict", checkpoint), "backbone."
    return dict(
        state_dict={
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
    )
