"""Drop path over a training: linear by epochs, resumed as it went on, in both networks of a search."""

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from mmengine.hooks import Hook
from mmengine.runner import Runner

from rarts_mm.engine import DropPathScheduleHook
from tests import tiny

EPOCHS = 4
ARCHITECTURE = dict(
    type="mmpretrain.ImageClassifier",
    backbone=dict(
        type="rarts_mm.DARTSNetwork",
        genotype="DARTS_V2",
        channels=2,
        layers=3,
        drop_path_rate=0.2,
        auxiliary=False,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=tiny.CLASSES,
        in_channels=32,
        loss=dict(type="CrossEntropyLoss"),
    ),
    _scope_="mmpretrain",
)


class Rates(Hook):
    """Notes the rates in the first step of each epoch."""

    def __init__(self) -> None:
        self.seen: list[set[float]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if batch_idx == 0:
            found = [m for m in runner.model.modules() if isinstance(m, DropPath)]
            self.seen.append({m.drop_prob for m in found})
            self.number = len(found)


def runner(work_dir, epochs: int = EPOCHS, **kwargs) -> Runner:
    settings = dict(
        model=ARCHITECTURE,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        train_dataloader=tiny.loader(number=4, batch_size=4),
    )
    return tiny.runner(work_dir, custom_hooks=[DropPathScheduleHook()], **{**settings, **kwargs})


def rates_of(run: Runner) -> tuple[list[float], int]:
    rates = Rates()
    run.register_hook(rates)
    run.train()
    assert all(len(seen) == 1 for seen in rates.seen)
    return [seen.pop() for seen in rates.seen], rates.number


def test_the_rate_rises_linearly_and_a_resumed_training_goes_on_with_it(tmp_path):
    whole = runner(tmp_path / "whole")
    rates, number = rates_of(whole)
    assert rates == pytest.approx([0.2 * e / EPOCHS for e in range(EPOCHS)])
    assert number > 0
    logged = [line["drop_path"] for line in tiny.scalars(tmp_path / "whole") if "loss" in line]
    assert logged == pytest.approx(rates)

    resumed = runner(
        tmp_path / "resumed",
        load_from=str(tmp_path / "whole" / "epoch_2.pth"),
        resume=True,
    )
    assert rates_of(resumed)[0] == pytest.approx(rates[2:])


def test_both_networks_of_a_search_have_the_rate(tmp_path):
    plain, _ = runner(tmp_path / "plain"), None
    of_one = sum(isinstance(m, DropPath) for m in plain.model.modules())
    search = tiny.runner(
        tmp_path / "search",
        epochs=2,
        data=tiny.loader(number=8, batch_size=4),
        model=dict(type="rarts_mm.SearchModel", architecture=ARCHITECTURE),
        custom_hooks=[DropPathScheduleHook()],
    )
    rates, number = rates_of(search)
    assert rates == pytest.approx([0.0, 0.1])
    assert number == 2 * of_one


def test_a_training_by_iterations_or_without_cells_is_an_error(tmp_path):
    by_iterations = runner(tmp_path / "iterations", train_cfg=dict(by_epoch=False, max_iters=2))
    with pytest.raises(ValueError, match="counts epochs, but this training counts iterations"):
        by_iterations.train()
    other = runner(tmp_path / "other", model=tiny.architecture())
    with pytest.raises(ValueError, match="no DARTSNetwork"):
        other.train()


def test_evaluation_drops_nothing():
    model = tiny.search_model(architecture=ARCHITECTURE).auxiliary.eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    whole = model(images)
    model.backbone.set_drop_path(0.0)
    assert torch.equal(model(images), whole)
