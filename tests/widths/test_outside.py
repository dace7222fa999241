"""Layers that are read from outside their host: found in users' code, not looked for in libraries'."""

import pytest

from rarts_mm.widths import find_units, outside
from tests.sharing_networks import SharingBackbone
from tests.widths.test_channels import BACKBONES, build


@pytest.mark.parametrize("name", [n for n in BACKBONES if "frozen" not in n])
def test_the_libraries_networks_read_nothing_outside(name, monkeypatch):
    """What spares them the run."""
    network = build(name)
    without = find_units(network, "")
    ran = []
    monkeypatch.setattr(outside, "_KNOWN", set())
    monkeypatch.setattr(outside, "_whole", lambda *args: ran.append(1) or args[0](args[1]))
    assert find_units(network, "") == without
    assert ran


def test_swin_with_its_masks_and_padding(detection_swin, monkeypatch):
    network = detection_swin()
    without = find_units(network, "")
    monkeypatch.setattr(outside, "_KNOWN", set())
    assert find_units(network, "") == without


def test_a_question_about_a_weight_is_no_reading(monkeypatch):
    def forward(self, images):
        assert self.first.conv1.weight.shape[0] == 8
        assert self.first.conv1.weight.requires_grad
        # Not through __call__, but the block runs all the same.
        return self.second(self.first.forward(self.stem(images)))

    monkeypatch.setattr(SharingBackbone, "forward", forward)
    units, left_out = find_units(SharingBackbone("none"), "")
    assert [unit.name for unit in units] == ["first.conv1", "second.conv1", "third.conv1"]
    assert not left_out


def test_what_cannot_run_is_left_to_the_proof(monkeypatch):
    def forward(self, images, more):
        raise KeyError(more)

    monkeypatch.setattr(SharingBackbone, "forward", forward)
    units, _ = find_units(SharingBackbone("call"), "")
    assert len(units) == 3
