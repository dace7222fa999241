"""Architectures of the NATS-Bench topology space: strings, numbers, derivation."""

import json

import pytest
import torch

from rarts_mm.cells import NATSArchitecture, NATSSpace
from rarts_mm.cells.nats import NATS_OPERATIONS
from rarts_mm.cells.nats.architecture import NUMBER

# Architectures 0 and 11 of the benchmark, as its files have them.
ZEROTH = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
ELEVENTH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"


def test_strings_are_the_benchmarks():
    architecture = NATSArchitecture.parse(ZEROTH)
    assert architecture.operations == (
        *("avg_pool_3x3", "nor_conv_1x1", "skip_connect"),
        *("nor_conv_1x1", "skip_connect", "skip_connect"),
    )
    assert architecture.skip_share == 0.5
    assert NATSArchitecture.parse(ELEVENTH).skip_share == 0
    for text in (ZEROTH, ELEVENTH):
        architecture = NATSArchitecture.parse(text)
        assert architecture.text() == text
        assert NATSArchitecture.parse(json.dumps(architecture.to_dict())) == architecture
        assert NATSArchitecture.parse(architecture.to_dict()) is not architecture
        assert NATSArchitecture.parse(f" {text}\n") == architecture


def test_numbers_are_all_architectures_once():
    assert NUMBER == 15_625
    texts = [NATSArchitecture.from_number(i).text() for i in range(NUMBER)]
    assert len(set(texts)) == NUMBER
    assert [NATSArchitecture.parse(text).number for text in texts] == list(range(NUMBER))
    assert texts[0] == "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert texts[1].endswith("|none~0|none~1|skip_connect~2|")
    assert texts[-1] == texts[0].replace("none", "avg_pool_3x3")


@pytest.mark.parametrize("number", [-1, NUMBER, 1.0, True, "3"])
def test_numbers_are_checked(number):
    with pytest.raises(ValueError, match="from 0 to 15624"):
        NATSArchitecture.from_number(number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|none~0|+|none~0|none~1|", r"2 nodes between '\+', expected 3"),
        (
            ZEROTH.replace("+|nor_conv_1x1~0|skip", "+nor_conv_1x1~0|skip", 1),
            "node 2.*begin and end",
        ),
        (ZEROTH.replace("|skip_connect~2|", "|"), "node 3.*2 edges, expected 3"),
        (
            ZEROTH.replace("skip_connect~1", "skip_connect", 1),
            "node 2.*edge 1.*of the form op~input",
        ),
        (
            ZEROTH.replace("skip_connect~2", "skip_connect~1"),
            "node 3.*edge 2: input '1', expected 2",
        ),
        (
            ZEROTH.replace("avg_pool", "max_pool"),
            "node 1, edge from 0: unknown operation 'max_pool_3x3'.*avg_pool_3x3",
        ),
        ('{"arch": "x"}', r"one key 'architecture', got \['arch'\]"),
        ('{"architecture": ', "no JSON text"),
        (["none"], "expected text of the form"),
        ("", "1 nodes"),
    ],
)
def test_malformed_strings_say_where(text, message):
    with pytest.raises(ValueError, match=message):
        NATSArchitecture.parse(text)


def test_a_wrong_number_of_operations_is_an_error():
    with pytest.raises(ValueError, match="expected 6 operations"):
        NATSArchitecture(("none",) * 5)


@pytest.mark.parametrize("relaxation", ["Softmax", "Sigmoid"])
def test_derivation_is_the_largest_of_all_five(relaxation):
    space = NATSSpace(relaxation=dict(type=relaxation))
    alpha = torch.tensor(
        [
            [9.0, 1, 2, 3, 4],  # none counts
            [-1.0, 0.5, 0.4, -3, 0],
            [0.0, 0, 0, 0, 0],  # of equals the first
            [-5.0, 1, 2, 2, -1],
            [0.0, 1, 2, 20, 21],
            [0.0, -1, -2, 1e-3, 0],
        ]
    )
    names = [NATS_OPERATIONS[i] for i in (0, 1, 0, 2, 4, 3)]
    assert space.derive({"cell": alpha.requires_grad_()}).operations == tuple(names)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ({"normal": torch.zeros(6, 5)}, r"an alpha 'cell' of shape \(6, 5\); got None"),
        ({"cell": torch.zeros(5, 6)}, r"got \(5, 6\)"),
        ({"cell": torch.full((6, 5), float("nan"))}, "node 1, edge from 0"),
    ],
)
def test_alphas_are_checked(alphas, message):
    with pytest.raises(ValueError, match=message):
        NATSSpace().derive(alphas)
