"""Searches of topologies go through the engine as those of widths do: resuming, AMP."""

from pathlib import Path

import pytest
import torch

from tests.cells.searches import SPACES, config, loader
from tests.engine import resuming

FLOAT16 = dict(dtype="float16", loss_scale=dict(init_scale=4.0, growth_interval=2))
SIGMOID = dict(relaxation=dict(type="Sigmoid"))


def search(folder: Path, space: str, **kwargs):
    settings = dict(
        model=config(
            space,
            space=kwargs.pop("relaxed", None),
            networks=1 if kwargs.get("alternation") in resuming.SINGLE else 2,
        ),
        data=loader(),
        loop=dict(split=dict(ratio=0.5)),
    )
    hooks = [dict(type="rarts_mm.GenotypeHook"), *kwargs.pop("hooks", [])]
    return resuming.run(folder, **{**settings, **kwargs, "custom_hooks": hooks})


def cut_and_resume(tmp_path: Path, space: str, at: int, **settings):
    """The same search in one go and in two."""
    search(tmp_path / "whole", space, **settings)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", space, hooks=[resuming.CutOff(at)], **settings)
    return search(tmp_path / "parts", space, resume=True, **settings)


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        pytest.param("CellSpace", dict(), marks=pytest.mark.slow),
        ("NATSSpace", dict(relaxed=SIGMOID)),
        ("NATSSpace", dict(amp=dict(dtype="bfloat16"))),
        pytest.param("CellSpace", dict(alternation="DARTS1", amp=FLOAT16), marks=pytest.mark.slow),
    ],
    ids=["cells", "nats-sigmoid", "nats-bfloat16", "cells-float16"],
)
def test_a_search_that_was_cut_off_ends_where_the_whole_one_ends(tmp_path, space, settings):
    """Halves of four images: two steps an epoch, cut off in the second epoch."""
    settings = dict(checkpoint=resuming.ITERATIONS) | settings
    resumed = cut_and_resume(tmp_path, space, 3, **settings)
    assert (resumed.epoch, resumed.iter) == (2, 4)
    last = "iter_4.pth"
    resuming.assert_same_search(tmp_path / "parts" / last, tmp_path / "whole" / last)
    whole = resuming.load(tmp_path / "whole" / last)
    first = resuming.load(tmp_path / "whole" / "iter_2.pth")
    for key, value in whole["state_dict"].items():
        if key.startswith("alpha."):
            assert value.dtype == torch.float32
            assert value.isfinite().all()
            assert not torch.equal(value, first["state_dict"][key])
    assert len(whole["rarts_mm"]["genotypes"]) == 1


def test_batches_of_one_image_are_an_error_at_the_start(tmp_path):
    for space in SPACES:
        with pytest.raises(ValueError, match=r"batch_size=1: batch norms would.*at least 2 images"):
            search(tmp_path / space, space, data=loader(8, 1))
    # Two images in two parts are batches of one as well.
    wrapper = dict(accumulative_counts=2)
    with pytest.raises(ValueError, match="accumulative_counts"):
        search(tmp_path / "parts", "NATSSpace", data=loader(8, 1), wrapper=wrapper)
    runner = search(tmp_path / "two", "NATSSpace", data=loader(8, 2), wrapper=wrapper)
    assert runner.iter == 2
