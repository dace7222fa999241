"""Which passes of a search are computed in half precision."""

import torch

from tests import tiny


def test_the_two_points_of_the_finite_difference_are_not_rounded():
    """They lie 0.01 apart over all weights; bfloat16 has eight bits."""
    model = tiny.search_model(networks=1).float()
    # The preprocessor of the tests makes float64.
    model.data_preprocessor.register_forward_hook(
        lambda _, args, out: {**out, "inputs": out["inputs"].float()}
    )
    halves = []
    model.auxiliary.register_forward_pre_hook(
        lambda *_: halves.append(torch.is_autocast_enabled("cpu"))
    )
    wrapper = tiny.wrap(model, alternation=dict(type="DARTS2"), amp=dict(dtype="bfloat16"))
    model.train_step(tiny.batches(), wrapper)
    # w's step; the gradient at w, the virtual point; the difference.
    assert halves == [True, True, True, False, False]
    model.train_step(tiny.batches(1), wrapper)
    assert halves[5:] == halves[:5]
