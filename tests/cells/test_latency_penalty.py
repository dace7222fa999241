"""The latency penalty in a topology search: relaxations, and whose table it is."""

import json

import pytest
import torch
from mmengine.registry import init_default_scope

from rarts_mm.cells.latency_table import measure_table
from rarts_mm.cells.places import find_search_network
from rarts_mm.search import LatencyPenalty
from tests import tiny


def model(relaxation="Softmax", **backbone):
    """A search model of cells, float64, all parameters random; its images are 28 x 28."""
    init_default_scope("mmpretrain")
    backbone = {"type": "rarts_mm.DARTSSearchNetwork", "channels": 2, "layers": 3, **backbone}
    head = dict(in_channels=16 * backbone["channels"])
    kind = tiny.architecture(head=head)
    kind["backbone"] = backbone
    space = dict(type="CellSpace", relaxation=dict(type=relaxation))
    return tiny.search_model(architecture=kind, space=space, networks=1)


def wrap(search, **penalty):
    return tiny.wrap(
        search,
        alternation=dict(type="Joint"),
        penalty=dict(type="LatencyPenalty", **penalty),
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Tables of the model, by the side of its images: file -> content."""
    folder = tmp_path_factory.mktemp("tables")
    network = find_search_network(model())
    for side in (28, 16):
        measure_table(network, (side, side), repeats=1, warmup=0).write(folder / f"{side}.json")
    return folder


def gradient(penalty, params):
    for p in params:
        p.grad = torch.zeros_like(p)
    with torch.no_grad():
        penalty.add_gradient_(params)
    return [p.grad for p in params]


@pytest.mark.parametrize("relaxation", ["Softmax", "Sigmoid"])
def test_value_and_gradient_under_both_relaxations(relaxation):
    """Closed forms and central differences, float64."""
    generator = torch.Generator().manual_seed(1)
    shapes = dict(normal=(14, 8), reduce=(14, 8))
    latencies = {n: 3 * torch.rand(s, generator=generator).double() for n, s in shapes.items()}
    search = model(relaxation)
    (penalty,) = wrap(search, latencies=latencies, gamma=0.7).lagrangian.penalties
    alphas = search.alpha_parameters()
    params = list(alphas.values())
    if relaxation == "Softmax":
        p = {
            n: a.detach().exp() / a.detach().exp().sum(-1, keepdim=True) for n, a in alphas.items()
        }
        wanted = [p[n] * (t - (p[n] * t).sum(-1, keepdim=True)) for n, t in latencies.items()]
    else:
        p = {n: 1 / (1 + (-a.detach()).exp()) for n, a in alphas.items()}
        wanted = [p[n] * (1 - p[n]) * t for n, t in latencies.items()]
    parts = {n: (p[n] * t).sum().item() for n, t in latencies.items()}
    assert {n: v.item() for n, v in penalty.expected(alphas).items()} == pytest.approx(parts)
    assert penalty.value(params).item() == pytest.approx(0.7 * sum(parts.values()), rel=1e-12)
    found = gradient(penalty, params)
    for f, w in zip(found, wanted, strict=True):
        torch.testing.assert_close(f, 0.7 * w, rtol=1e-10, atol=1e-14)
    for alpha, f in zip(params, found, strict=True):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                alpha[5, 3] += sign * 1e-6
                values.append(penalty.value(params).item())
                alpha[5, 3] -= sign * 1e-6
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(f[5, 3].item(), rel=1e-6)
    residual = [torch.ones_like(a) for a in params]
    penalty.residual_(residual, params, 0.5)
    for r, w in zip(residual, wanted, strict=True):
        torch.testing.assert_close(r, 1 + 0.35 * w, rtol=1e-10, atol=1e-14)


def test_a_measured_table_is_taken_for_its_own_network(measured):
    search = model()
    wrapper = wrap(search, latencies=str(measured / "28.json"), gamma=0.5, device="CPU")
    content = json.loads((measured / "28.json").read_text())["latencies"]
    wanted = sum(
        (a.detach().softmax(-1) * torch.tensor(content[n]).double()).sum().item()
        for n, a in search.alpha_parameters().items()
    )
    for seed in range(2):
        log = search.train_step(tiny.batches(seed), wrapper)
        if seed == 0:
            assert float(log["penalty"]) == pytest.approx(0.5 * wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (dict(layers=4), r"28\.json is of another network.*layers: 3 in the table, 4 here"),
        (dict(channels=3), r"channels: 2 in the table, 3 here.*latency_table\.py CONFIG"),
    ],
)
def test_a_table_of_another_network_is_refused(measured, backbone, message):
    with pytest.raises(ValueError, match=message):
        wrap(model(**backbone), latencies=str(measured / "28.json"))


def test_a_table_of_other_operations_is_refused(measured, tmp_path):
    content = json.loads((measured / "28.json").read_text())
    content["network"]["operations"][1] = "conv_9x9"
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"operations: \['none', 'conv_9x9'"):
        wrap(model(), latencies=str(tmp_path / "other.json"))
    # And as a dict in the config.
    with pytest.raises(ValueError, match="the given dict is of another network"):
        wrap(model(), latencies=content)


def test_a_table_of_another_input_size_is_refused_in_the_first_step(measured):
    search = model()
    wrapper = wrap(search, latencies=str(measured / "16.json"))
    # Validation may see other sizes.
    search.eval()
    search.auxiliary.backbone(torch.zeros(1, 3, 12, 12).double())
    search.train()
    before = [p.detach().clone() for p in search.parameters()]
    with pytest.raises(ValueError, match=r"input size of \[16, 16\].*images of \[28, 28\].*16, 16"):
        search.train_step(tiny.batches(), wrapper)
    assert all(torch.equal(a, b) for a, b in zip(before, search.parameters(), strict=True))
    search = model()
    wrapper = wrap(search, latencies=str(measured / "16.json"), input_size=(16, 16))
    search.train_step(tiny.batches(), wrapper)


def test_what_is_asked_of_the_table_is_checked(measured):
    path = str(measured / "28.json")
    with pytest.raises(ValueError, match=r"device='cuda', but .*28\.json was measured on 'cpu: "):
        LatencyPenalty(path, device="cuda")
    with pytest.raises(
        ValueError, match=r"device='cpu', but the given dict .* 'an unknown device'"
    ):
        LatencyPenalty(dict(normal=[1.0]), device="cpu")
    with pytest.raises(ValueError, match=r"input_size=\[8, 8\].*measured at \[28, 28\]"):
        LatencyPenalty(path, input_size=(8, 8))
    with pytest.raises(ValueError, match="not of which input size"):
        LatencyPenalty(dict(latencies=dict(normal=[1.0]), network=dict(type="X")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"table\.json is no latency table: it is no JSON"),
        ("[1, 2]", r"table\.json holds no latency table"),
        ('{"latencies": [1]}', r"table\.json holds no latency table"),
        ('{"normal": [[1, 2], [3]]}', "latencies of 'normal' are no array of numbers"),
        ('{"normal": ["a"]}', "latencies of 'normal' are no array of numbers"),
    ],
)
def test_files_that_hold_no_table(tmp_path, text, message):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        LatencyPenalty(str(path))
