"""Timing, side by side."""

import json
import time

import pytest
import torch
from mmdet.structures import DetDataSample
from torch import nn

from rarts_mm.analysis import Latency, environment, latency_of_models, measure_latency


def test_calls_take_turns():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    found = measure_latency(calls, repeats=4, warmup=2)
    assert "".join(order) == 6 * "abc"
    assert {name: latency.repeats for name, latency in found.items()} == {"a": 4, "b": 4, "c": 4}


def test_rounds_are_told_and_do_not_count():
    rounds = []

    def after_round():
        rounds.append(len(rounds))
        time.sleep(0.05)

    found = measure_latency({"a": lambda: None, "b": lambda: None}, 3, 2, after_round)
    assert rounds == [0, 1, 2, 3, 4]
    assert all(latency.upper < 50 for latency in found.values())


def test_median_and_quartiles(monkeypatch):
    # Two readings of the clock a call: 0 to 1, 2, 3, 4, 5 seconds, and warm-up of 100.
    readings = iter(x for seconds in (100, 3, 1, 5, 2, 4) for x in (0.0, float(seconds)))
    monkeypatch.setattr(time, "perf_counter", lambda: next(readings))
    found = measure_latency({"call": lambda: None}, repeats=5, warmup=1)
    assert found == {"call": Latency(median=3000, lower=2000, upper=4000, repeats=5)}


def test_sleep_is_timed_in_milliseconds():
    found = measure_latency({"call": lambda: time.sleep(0.02)}, repeats=1, warmup=0)["call"]
    assert 20 <= found.median < 2000


def test_no_gradients():
    modes = []
    measure_latency({"call": lambda: modes.append(torch.is_inference_mode_enabled())}, 1, 0)
    assert modes == [True]


def test_detectors_predict(small_detector, monkeypatch):
    results = []
    predict = small_detector.predict

    def spy(*args, **kwargs):
        assert not small_detector.training
        results.extend(predict(*args, **kwargs))
        return results

    monkeypatch.setattr(small_detector, "predict", spy)
    # Boxes of any score get through, so masks are made for them.
    small_detector.test_cfg.rcnn.score_thr = 0.0
    small_detector.roi_head.test_cfg.score_thr = 0.0
    small_detector.train()
    found = latency_of_models({"small": small_detector}, (64, 96), batch=2, repeats=1, warmup=1)
    assert small_detector.training
    assert found["small"].median > 0
    assert len(results) == 4
    assert all(isinstance(result, DetDataSample) for result in results)
    masks = results[0].pred_instances.masks
    assert len(masks) > 0
    assert masks.shape[1:] == (64, 96)


def test_classifiers_predict_and_other_modules_run(classifier):
    calls = []
    plain = nn.Conv2d(3, 2, 1)
    plain.register_forward_hook(lambda _, args, out: calls.append((args[0].shape, args[0].dtype)))
    models = {"classifier": classifier, "plain": plain.double()}
    found = latency_of_models(models, (224, 224), batch=2, repeats=2, warmup=0)
    assert list(found) == ["classifier", "plain"]
    assert calls == 2 * [((2, 3, 224, 224), torch.float64)]


def test_models_of_grey_images_get_grey_ones(monkeypatch):
    """By their preprocessor's means, or by their first convolution."""
    from mmpretrain.models import ImageClassifier

    grey = ImageClassifier(
        backbone=dict(type="rarts_mm.PreResNet", depth=11, base_channels=4, in_channels=1),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=3, in_channels=64),
        data_preprocessor=dict(mean=[78.0], std=[96.0], to_rgb=False),
    )
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    found = latency_of_models(dict(grey=grey, other=other), (8, 8), batch=2, repeats=1, warmup=0)
    assert all(latency.median > 0 for latency in found.values())


def test_environment():
    where = json.loads(json.dumps(environment(nn.Linear(2, 2).double())))
    assert where["device"].startswith("cpu: ")
    assert where["dtype"] == "float64"
    assert where["threads"] == torch.get_num_threads()
    assert where["torch"] == torch.__version__


def test_errors():
    with pytest.raises(ValueError, match="nothing to time"):
        measure_latency({})
    with pytest.raises(ValueError, match="repeats=0"):
        measure_latency({"a": print}, repeats=0)
    with pytest.raises(ValueError, match="nothing to time"):
        latency_of_models({}, (8, 8))
    with pytest.raises(ValueError, match="at least 1 image, got 0"):
        latency_of_models({"a": nn.Conv2d(3, 2, 1)}, (8, 8), batch=0)
