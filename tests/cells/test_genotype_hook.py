"""What a topology search says and keeps of its genotypes."""

import json

import pytest
import torch
from mmengine.evaluator import BaseMetric
from torch import nn

from rarts_mm.cells import CellSpace
from rarts_mm.cells.genotype import Genotype
from rarts_mm.cells.searchable import SearchableNetwork
from rarts_mm.engine import GenotypeHook
from rarts_mm.engine.hooks import genotype_hook
from rarts_mm.registry import MODELS, SPACES
from tests import tiny
from tests.engine.resuming import CutOff
from tests.tiny import log_text, scalars

METRIC = "accuracy/top1"


class Given(BaseMetric):
    """The value of the epoch that the hook has seen last."""

    def __init__(self, values: list[float], hook: GenotypeHook) -> None:
        super().__init__()
        self.values, self.hook = values, hook

    def process(self, data_batch, data_samples) -> None:
        self.results.append(len(data_samples))

    def compute_metrics(self, results) -> dict:
        return {METRIC: self.values[self.hook.history[-1]["epoch"] - 1]}


@MODELS.register_module()
class TinySearchNetwork(SearchableNetwork):
    """A pixel's mean times a number that depends on all weights: alpha without the operations."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(("normal", "reduce"), (14, 8)))
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))
        self.cells = nn.ModuleList()

    def forward(self, x):
        x = self.enter(x)
        generator = torch.Generator().manual_seed(0)
        for weights in self.weights(x).values():
            x = x * (weights * torch.randn(weights.shape, generator=generator)).sum()
        return (x,)


@SPACES.register_module()
class TinyCellSpace(CellSpace):
    network = TinySearchNetwork


def search(work_dir, epochs=3, values=None, hooks=(), checkpoint=None, genotype=None, **settings):
    """The runner of a small search; alpha moves enough for the genotype to change."""
    data = tiny.loader(16, 4)
    data["dataset"]["size"] = 8
    hook = GenotypeHook(**(genotype or {}))
    validation = {}
    if values is not None:
        validation = dict(
            val_dataloader=data | dict(sampler=dict(type="DefaultSampler", shuffle=False)),
            val_cfg=dict(),
            val_evaluator=[Given(values, hook)],
        )
    architecture = tiny.architecture(head=dict(in_channels=4))
    architecture["backbone"] = dict(type="rarts_mm.TinySearchNetwork")
    return tiny.runner(
        work_dir,
        data=data,
        model=dict(
            type="rarts_mm.SearchModel",
            architecture=architecture,
            space=dict(type="TinyCellSpace", init_std=0.1),
        ),
        optim_wrapper=dict(
            type="rarts_mm.RARTSOptimWrapper",
            constructor="rarts_mm.RARTSOptimWrapperConstructor",
            weights=tiny.weights_config(),
            alpha=dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=0.1)),
        ),
        train_cfg=dict(
            type="rarts_mm.SearchLoop", max_epochs=epochs, val_interval=1, split=dict(seed=3)
        ),
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=1),
            checkpoint=dict(type="CheckpointHook", interval=1) | (checkpoint or {}),
        ),
        custom_hooks=[hook, *hooks],
        **{**validation, **settings},
    )


def load(path) -> dict:
    return torch.load(path, weights_only=False)


def derived(checkpoint: dict) -> Genotype:
    state = checkpoint["state_dict"]
    return CellSpace().derive({cell: state[f"alpha.{cell}"] for cell in ("normal", "reduce")})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Work dir of a finished search whose second epoch validates best."""
    work_dir = tmp_path_factory.mktemp("search")
    search(
        work_dir, values=[20.0, 90.0, 50.0], checkpoint=dict(save_best=METRIC, rule="greater")
    ).train()
    return work_dir


def test_every_epoch_is_logged_and_in_the_checkpoint(finished):
    text = log_text(finished)
    lines = [line for line in scalars(finished) if "genotype/skip" in line and "loss" not in line]
    genotypes = [derived(load(finished / f"epoch_{i}.pth")) for i in (1, 2, 3)]
    assert len(set(genotypes)) == 3, "the search moves alpha"
    for epoch, (genotype, line) in enumerate(zip(genotypes, lines, strict=True), start=1):
        assert f"Genotype after epoch {epoch} (" in text
        assert genotype.text() in text
        assert line["step"] == 2 * epoch
        assert line["genotype/skip"] == genotype.skip_share
        assert line["genotype/skip_normal"] == genotype.skip_shares["normal"]
        assert line["genotype/skip_reduce"] == genotype.skip_shares["reduce"]
        history = load(finished / f"epoch_{epoch}.pth")["rarts_mm"]["genotypes"]
        assert [entry["epoch"] for entry in history] == list(range(1, epoch + 1))
        assert [Genotype.parse(entry["genotype"]) for entry in history] == genotypes[:epoch]


def test_files_at_the_end(finished):
    last = derived(load(finished / "epoch_3.pth"))
    assert Genotype.parse((finished / "genotype.json").read_text()) == last
    assert Genotype.parse((finished / "genotype.txt").read_text()) == last
    assert (finished / "cells.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (finished / "cells.svg").read_text()
    assert not list(finished.glob(".*")), "nothing is left half-written"


def test_the_best_epoch_by_validation(finished):
    record = json.loads((finished / "genotypes.json").read_text())
    assert [entry["metric"][METRIC] for entry in record["history"]] == [20.0, 90.0, 50.0]
    assert record["best"] == record["history"][1]
    # The same epoch that CheckpointHook keeps.
    (best,) = finished.glob("best_*.pth")
    assert load(best)["meta"]["epoch"] == 2
    assert derived(load(best)) == Genotype.parse(record["best"]["text"])
    assert load(best)["rarts_mm"]["genotypes"][-1]["metric"] == {METRIC: 90.0}
    assert f"Best {METRIC}: 90 after epoch 2" in log_text(finished)


@pytest.mark.parametrize(
    ("at", "checkpoint"),
    [
        (3, {}),
        (5, {}),
        (5, dict(by_epoch=False, interval=2)),
        (6, dict(by_epoch=False, interval=1)),
    ],
    ids=str,
)
def test_a_resumed_search_has_the_history_of_the_uninterrupted_one(
    tmp_path, finished, at, checkpoint
):
    settings = dict(checkpoint=checkpoint)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, hooks=[CutOff(at)], values=[20.0, 90.0, 50.0], **settings).train()
    search(tmp_path, resume=True, values=[20.0, 90.0, 50.0], **settings).train()
    whole, parts = (
        json.loads((folder / "genotypes.json").read_text()) for folder in (finished, tmp_path)
    )
    assert parts == whole


def test_a_finished_search_that_is_resumed_writes_the_same(tmp_path, finished):
    runner = search(
        tmp_path, resume=True, load_from=str(finished / "epoch_3.pth"), values=[1.0] * 3
    )
    runner.train()
    assert (
        json.loads((tmp_path / "genotypes.json").read_text())["history"][:2]
        == (json.loads((finished / "genotypes.json").read_text())["history"][:2])
    )
    assert (tmp_path / "cells.svg").read_bytes() == (finished / "cells.svg").read_bytes()


def test_without_validation_there_is_no_best(tmp_path):
    search(tmp_path, epochs=2, genotype=dict(interval=2)).train()
    record = json.loads((tmp_path / "genotypes.json").read_text())
    assert record["best"] is None
    assert len(record["history"]) == 2
    assert log_text(tmp_path).count("Genotype after epoch") == 1, "every second epoch"


def test_a_metric_that_is_not_there_is_warned_of_once(tmp_path):
    runner = search(tmp_path, epochs=2, values=[1.0, 2.0], genotype=dict(metric="accuracy"))
    runner.train()
    text = log_text(tmp_path)
    assert text.count(f"validation gives no 'accuracy' (it gives {METRIC})") == 1
    assert json.loads((tmp_path / "genotypes.json").read_text())["best"] is None


def test_the_lesser_value_may_be_the_better_one_and_equals_are_the_first():
    hook = GenotypeHook(rule="less")
    hook.history = [dict(epoch=i + 1, metric={METRIC: m}) for i, m in enumerate([3, 1, 1, 2])]
    assert hook.best["epoch"] == 2


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(genotype_hook, "is_main_process", lambda: False)
    search(tmp_path, epochs=1).train()
    assert (tmp_path / "epoch_1.pth").is_file()
    assert not (tmp_path / "genotype.json").exists()
    assert not (tmp_path / "cells.svg").exists()


def test_a_search_for_widths_has_no_genotype(tmp_path):
    with pytest.raises(ValueError, match="a WidthSpace derives no genotype; take the hook out"):
        tiny.runner(tmp_path, custom_hooks=[GenotypeHook()]).train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(rule="most"), r"rule must be one of \['greater', 'less'\], got 'most'"),
        (dict(interval=0), "interval must be at least 1, got 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        GenotypeHook(**settings)
