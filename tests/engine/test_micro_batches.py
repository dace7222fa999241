"""A step computed in parts is the step on the whole batches."""

import numpy as np
import pytest
import torch

from rarts_mm.search import AUXILIARY, PRIMARY
from tests import tiny

ALTERNATIONS = [
    (2, dict(type="RARTS")),
    (2, dict(type="RARTSJacobi")),
    (1, dict(type="DARTS1")),
    (1, dict(type="DARTS2", xi=0.1)),
    (1, dict(type="DARTS2", derivative="exact")),
    (1, dict(type="MiLeNAS")),
    (1, dict(type="Joint")),
]


def trained(counts, networks, alternation, number=5, head=None, preprocessor=None):
    more = {} if preprocessor is None else dict(data_preprocessor=preprocessor)
    kind = tiny.architecture(head=head)
    model = tiny.search_model(networks=networks, architecture=kind, **more)
    torch.manual_seed(1)
    np.random.seed(1)
    weights = tiny.weights_config(clip_grad=dict(max_norm=0.3))
    wrapper = tiny.wrap(
        model, weights=weights, alternation=alternation, lam=0.7, accumulative_counts=counts
    )
    logs = [model.train_step(tiny.batches(i, number), wrapper) for i in range(2)]
    return model.state_dict(), logs


@pytest.mark.parametrize(("networks", "alternation"), ALTERNATIONS, ids=str)
def test_micro_batches_equal_one_large_batch(networks, alternation):
    """Five images in three parts: 1, 2 and 2."""
    whole, logs = trained(1, networks, alternation)
    parts, logs_of_parts = trained(3, networks, alternation)
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-8, atol=1e-10)
    for one, other in zip(logs_of_parts, logs, strict=True):
        assert one.keys() == other.keys()
        for key in other:
            assert float(one[key]) == pytest.approx(float(other[key]), rel=1e-9)


def test_images_are_mixed_with_those_of_the_whole_batch():
    mixing = dict(
        head=dict(loss=dict(type="CrossEntropyLoss", use_soft=True)),
        preprocessor=dict(
            tiny.preprocessor(tiny.Doubles),
            batch_augments=dict(augments=dict(type="Mixup", alpha=0.8)),
        ),
    )
    whole, _ = trained(1, 2, dict(type="RARTS"), **mixing)
    parts, _ = trained(3, 2, dict(type="RARTS"), **mixing)
    plain, _ = trained(3, 2, dict(type="RARTS"))
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-8, atol=1e-10)
    assert any(not torch.allclose(parts[key], value) for key, value in plain.items())


def test_no_part_is_empty_where_a_batch_is_small():
    state, _ = trained(8, 2, dict(type="RARTS"), number=3)
    whole, _ = trained(1, 2, dict(type="RARTS"), number=3)
    for key, value in whole.items():
        torch.testing.assert_close(state[key], value, rtol=1e-8, atol=1e-10)


def test_one_part_is_in_the_network_at_a_time():
    model = tiny.search_model()
    wrapper = tiny.wrap(model, accumulative_counts=2)
    sizes = {AUXILIARY: [], PRIMARY: []}
    for name, seen in sizes.items():
        getattr(model, name).backbone.register_forward_hook(
            lambda _m, inputs, _o, seen=seen: seen.append(len(inputs[0]))
        )
    model.train_step(tiny.batches(0, 5), wrapper)
    assert sizes == {AUXILIARY: [2, 3, 2, 3], PRIMARY: [2, 3, 2, 3]}


def test_the_base_configs_counts_become_the_searchs():
    weights = tiny.weights_config(accumulative_counts=4)
    assert tiny.wrap(tiny.search_model(), weights=weights).accumulative_counts == 4
    assert (
        tiny.wrap(tiny.search_model(), weights=weights, accumulative_counts=2).accumulative_counts
        == 2
    )
