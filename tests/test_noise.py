"""Messages of the libraries that nobody can act on are not seen; all others are."""

import logging
import subprocess
import sys
import warnings

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger, print_log

from rarts_mm import noise
from rarts_mm.apis.errors import UsageError
from rarts_mm.apis.preflight import check_metrics
from rarts_mm.noise import _LOG, LibraryNoise, import_without_noise, silence_warnings
from tests.conftest import CONFIGS

MASKS = "mmdet.models.roi_heads.mask_heads.fcn_mask_head"
METRIC = "mmdet.evaluation.metrics.faster_coco_metric"
COPY = "To copy construct from a tensor, it is recommended to use"
MISSING = "faster_coco_eval is not installed, metrics will not be computed."


def test_only_the_listed_messages_of_the_listed_modules_are_silent():
    told = [
        (COPY, MASKS, UserWarning),
        (MISSING, METRIC, UserWarning),
        # Another module, another message, another kind.
        (COPY, "somebody.elses", UserWarning),
        ("Another thing", MASKS, UserWarning),
        (MISSING, METRIC, RuntimeWarning),
    ]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        silence_warnings()
        for message, module, kind in told:
            warnings.warn_explicit(message, kind, "file.py", 1, module)
    assert [(str(w.message), w.category) for w in seen] == [(m, k) for m, _, k in told[2:]]


def test_the_log_keeps_what_is_not_listed():
    logger = MMLogger("noise", logger_name="noise")
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger.addHandler(handler)
    logger.addFilter(LibraryNoise())
    for message in (*(f"{start} ..." for start in _LOG), "a real warning"):
        print_log(message, logger=logger, level=logging.WARNING)
    assert records == ["a real warning"]


def test_what_a_module_prints_on_import_is_shown_but_for_the_list(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    listed = noise._PRINTED[0]
    (tmp_path / "loud_module.py").write_text(f"print({listed!r})\nprint('of the user')\n")
    import_without_noise("loud_module")
    import_without_noise("loud_module")
    assert capsys.readouterr().out == "of the user\n"


@pytest.mark.slow
def test_a_detectors_libraries_are_imported_without_a_word_of_their_optional_packages():
    config = str(CONFIGS / "sidt_swin_micro_shapes.py")
    code = (
        "from rarts_mm.apis import read_config; from rarts_mm.apis.configs import prepare_registries; "
        f"prepare_registries(read_config({config!r})); import mmdet.datasets, mmdet.evaluation; "
        "import warnings; warnings.warn('of the user')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout + done.stderr
    assert "OneDL" not in said
    assert "faster_coco_eval" not in said
    assert "of the user" in said


@pytest.mark.parametrize("kind", ["FasterCocoMetric", "mmdet.FasterCocoMetric"])
def test_a_metric_whose_package_is_missing_is_an_error_at_once(kind, monkeypatch):
    monkeypatch.setattr("rarts_mm.apis.preflight.find_spec", lambda name: None)
    coco = dict(type="CocoMetric")
    check_metrics(Config(dict(val_evaluator=[coco], test_evaluator=coco)), ("val", "test"))
    with pytest.raises(UsageError, match=r"val_evaluator\.type=.*pip install faster-coco-eval"):
        check_metrics(Config(dict(val_evaluator=[coco, dict(type=kind)])), ("val",))
