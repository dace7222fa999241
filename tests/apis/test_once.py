"""What is remembered in a process is what MMEngine would compute again."""

import pytest
from mmengine.config import Config, utils
from yapf.yapflib import yapf_api

from rarts_mm.apis.once import work_once
from tests.conftest import CONFIGS, LAYOUT


@pytest.fixture
def layout(monkeypatch):
    """yapf's own, which the other tests do without."""
    monkeypatch.setattr(yapf_api, "FormatCode", LAYOUT)
    work_once()
    remembering = yapf_api.FormatCode
    work_once()
    assert yapf_api.FormatCode is remembering, "wrapped once"
    return LAYOUT


def test_the_text_is_the_one_that_is_laid_out_without_it(layout, monkeypatch):
    path = CONFIGS / "sidt_swin_micro_shapes.py"
    texts = {Config.fromfile(path).pretty_text for _ in range(2)}
    monkeypatch.setattr(yapf_api, "FormatCode", layout)
    assert texts == {Config.fromfile(path).pretty_text}


def test_changed_settings_are_laid_out_anew(layout):
    cfg = Config(dict(a=1))
    assert "a = 1" in cfg.pretty_text
    cfg.a = 2
    assert "a = 2" in cfg.pretty_text


def test_an_index_is_read_once():
    work_once()
    utils.load.cache_clear()
    for _ in range(3):
        Config.fromfile(CONFIGS / "_base_/cascade-mask-rcnn_swin-micro_shapes.py")
    found = utils.load.cache_info()
    assert found.misses > 0
    assert found.hits == 2 * found.misses
