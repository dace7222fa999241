"""From the address of a checkpoint to a file of this machine."""

import os
import zlib
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank

from .errors import CheckpointFileError

CLASSIFIERS = "mmcls://"


class CheckpointFetchError(CheckpointFileError):
    """A checkpoint's address that is unknown, or out of reach."""


def fetch(address: str) -> Path:
    """Return the file that an address means; downloads it once, to where :mod:`torch.hub` keeps files.

    Args:
        address: ``https://``, ``http://``, or a name of the libraries' model zoos: ``torchvision://``,
            ``open-mmlab://``, ``mmcls://``.

    Raises:
        CheckpointFetchError: it cannot be had.
    """
    url = _url(address)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(urlparse(url).path).name
    # As in MMEngine, one process downloads and the others wait for it.
    if get_rank() == 0 and not file.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), progress=os.isatty(2))
        except (OSError, ValueError, RuntimeError, zlib.error) as error:
            raise CheckpointFetchError(
                f"checkpoint {address} cannot be fetched: {error}. Download it and give the path of "
                "the file"
            ) from error
    barrier()
    return file


def _url(address: str) -> str:
    scheme, _, name = address.partition("://")
    if scheme in ("http", "https"):
        return address
    # The lists of names are with the Runner, which nothing else here needs.
    from mmengine.runner import (
        get_deprecated_model_names,
        get_external_models,
        get_mmcls_models,
        get_torchvision_models,
    )

    if scheme in ("torchvision", "modelzoo"):
        models = get_torchvision_models()
    elif scheme in ("open-mmlab", "openmmlab"):
        models = get_external_models()
        name = get_deprecated_model_names().get(name, name)
    elif address.startswith(CLASSIFIERS):
        models = get_mmcls_models()
    else:
        raise CheckpointFetchError(
            f"checkpoint {address}: {scheme}:// is not read from. Download it and give the path of the "
            "file"
        )
    if name not in models:
        raise CheckpointFetchError(f"checkpoint {address}: there is no model of this name")
    return models[name]
