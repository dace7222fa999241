"""The comparison of topology searches: its runs, its random cells, its page."""

import importlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine import Config
from mmengine.runner import set_random_seed

from rarts_mm.apis import read_config
from rarts_mm.apis.configs import prepare_registries
from rarts_mm.cells import OPERATIONS
from rarts_mm.cells.genotype import Genotype
from rarts_mm.registry import MODELS

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "rarts_darts_digits.py")
NETWORK = str(ROOT / "configs" / "darts_retrain_digits.py")


@pytest.fixture(scope="module")
def module():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "studies")
        yield importlib.import_module


@pytest.fixture(scope="module")
def small(module, digits):
    """A task whose network is as small as can be, of an epoch each; the method is still to be said."""
    command, one_search = module("compare_topologies"), module("topologies.one_search")
    args = command.parse_args(["--data", str(digits), "--epochs", "1", "--retrain-epochs", "1"])
    search = command.search_options(args) | {
        "model.architecture.backbone.nodes": 1,
        "model.architecture.backbone.channels": 2,
        "model.architecture.head.in_channels": 8,
        "train_dataloader.batch_size": 250,
    }
    retraining = command.retraining_options(args) | {
        "model.backbone.channels": 2,
        "model.backbone.layers": 3,
        "train_dataloader.batch_size": 250,
    }
    return lambda method, **more: one_search.Task(method, 3, "val", search, retraining, **more)


def test_random_cells_are_those_that_a_search_could_derive(module):
    draw = module("topologies.random_cells").random_genotype
    generator = np.random.default_rng(0)
    genotypes = [draw(3, generator) for _ in range(200)]
    found = Counter()
    for genotype in genotypes:
        # Parsing checks it.
        assert Genotype.parse(genotype.text()) == genotype
        for cell in ("normal", "reduce"):
            for i, ((one, first), (two, second)) in enumerate(genotype.nodes(cell)):
                assert first != second
                assert max(first, second) < 2 + i
                found.update([one, two])
    # Each of the seven a seventh of 2400 times, within four standard deviations.
    assert set(found) == set(OPERATIONS) - {"none"}
    assert all(abs(count - 2400 / 7) < 4 * (2400 * 6 / 49) ** 0.5 for count in found.values())
    assert len(set(map(Genotype.text, genotypes))) == 200
    again = np.random.default_rng(0)
    assert [draw(3, again) for _ in range(3)] == genotypes[:3]


def test_a_run_searches_derives_and_retrains(module, small, tmp_path):
    perform = module("topologies.one_search").perform
    found = perform(small("DARTS1"), tmp_path / "run", CONFIG, NETWORK)
    assert found["steps"] == 2
    (network,) = found["networks"]
    genotype = Genotype.parse((tmp_path / "run/derived/genotype.json").read_text())
    assert network["method"] == "DARTS1"
    assert Genotype.parse(network["genotype"]) == genotype
    assert network["skip_share"] == genotype.skip_share
    # 1000 images, all of them.
    assert network["finetune_steps"] == 4
    assert 0 <= network["error"] <= 100
    # 257 images for validation, of which a whole number is wrong.
    assert network["error"] * 2.57 == pytest.approx(round(network["error"] * 2.57), abs=1e-3)
    search = Config.fromfile(tmp_path / "run/search.py")
    retrain = Config.fromfile(tmp_path / "run/derived/retrain.py")
    assert search.model.networks == 1
    assert search.train_cfg.split.seed == search.randomness.seed == retrain.randomness.seed == 3
    # Finished, it is not run again.
    (tmp_path / "run/search.py").unlink()
    assert perform(small("DARTS1"), tmp_path / "run", CONFIG, NETWORK) == found
    assert not (tmp_path / "run/search.py").exists()


def test_all_alternations_of_a_seed_begin_alike(module, small):
    alphas, weights = [], []
    for method in ("RARTS", "DARTS2", "Joint"):
        cfg = module("topologies.one_search").config_of(small(method), CONFIG)
        prepare_registries(cfg)
        set_random_seed(cfg.randomness.seed)
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
        model.init_weights()
        alphas.append(model.alpha_parameters()["normal"])
        weights.append(dict(model.auxiliary.named_parameters()))
    for alpha, others in zip(alphas[1:], weights[1:], strict=True):
        assert (alpha == alphas[0]).all()
        assert all((p == weights[0][n]).all() for n, p in others.items())


@pytest.mark.slow
def test_the_random_search_keeps_what_the_other_half_likes_best(module, small, tmp_path):
    task = small("random search", candidates=3, candidate_epochs=1)
    found = module("topologies.one_search").perform(task, tmp_path / "run", CONFIG, NETWORK)
    best, first = found["networks"]
    assert (best["method"], first["method"]) == ("random search", "random cells")
    errors = [candidate["error"] for candidate in found["candidates"]]
    assert best["genotype"] == found["candidates"][int(np.argmin(errors))]["genotype"]
    assert first["genotype"] == found["candidates"][0]["genotype"]
    # Candidates: 500 images in batches of 250, three times; the networks: all images.
    assert found["steps"] == 3 * 2
    assert best["finetune_steps"] == first["finetune_steps"] == 4
    cfg = Config.fromfile(tmp_path / "run/candidate0/retrain.py")
    one, other = (cfg[f"{phase}_dataloader"].dataset for phase in ("train", "test"))
    assert one.data_prefix == other.data_prefix == "train"
    assert sorted([*one.indices, *other.indices]) == list(range(1000))
    assert len(one.indices) == 500
    cfg = Config.fromfile(tmp_path / "run/random_search/retrain.py")
    assert cfg.test_dataloader.dataset.data_prefix == "val"
    assert "indices" not in cfg.train_dataloader.dataset


def test_the_rate_with_the_lowest_error_is_chosen(module):
    command = module("compare_topologies")
    args = command.parse_args(["--sweep-seeds", "2"])
    tasks = command.sweep_tasks(args)
    assert len(tasks) == 2 * len(command.SEARCHES) * len(command.ALPHA_RATES)
    assert all(task.test_on == "val" and task.seed >= 1000 for task in tasks.values())
    best, errors = command.ALPHA_RATES[1], iter(range(10**6))
    results = {}
    for folder, task in tasks.items():
        rate = task.search[command.ALPHA_RATE]
        error = 1.0 if rate == best else 2.0 + next(errors)
        results[folder] = dict(networks=[dict(error=error)])
    rates, means = command.choose_rates(tasks, results)
    assert rates == dict.fromkeys(command.SEARCHES, best)
    assert {by_rate[best] for by_rate in means.values()} == {1.0}
    final = command.final_tasks(args, rates)
    assert {task.test_on for task in final.values()} == {"test"}
    assert not {task.seed for task in final.values()} & {task.seed for task in tasks.values()}
    # Between equals the slower one.
    equal = {folder: dict(networks=[dict(error=3.0)]) for folder in tasks}
    assert set(command.choose_rates(tasks, equal)[0].values()) == {min(command.ALPHA_RATES)}


def invented(errors, skips):
    """Results of runs: errors and skip shares by method."""
    runs = []
    for method in errors:
        if method == "random cells":
            continue
        names = [method, "random cells"] if method == "random search" else [method]
        for seed in range(len(errors[method])):
            runs.append(
                dict(
                    task=dict(method=method, seed=seed, candidate_epochs=7),
                    seconds=60.0 if method == "RARTS" else 30.0,
                    steps=300,
                    candidates=[{}] * 8,
                    networks=[
                        dict(
                            method=name,
                            error=errors[name][seed],
                            skip_share=skips.get(name, 0.25),
                            parameters=2345 if name != "random cells" else 4690,
                            flops=67890,
                            finetune_seconds=12.0,
                        )
                        for name in names
                    ],
                )
            )
    return runs


def test_the_section_says_what_the_numbers_say(module, tmp_path):
    command, page = module("compare_topologies"), module("topologies.page")
    seeds = [5.0, 7.0, 6.0, 8.0]
    methods = (*command.SEARCHES, "random search", "random cells")
    errors = dict.fromkeys(methods, seeds)
    errors["DARTS1"] = [e + 3 + 0.02 * i for i, e in enumerate(seeds)]
    errors["random search"] = [e - 3 + 0.02 * i for i, e in enumerate(seeds)]
    page.write_page(
        tmp_path / "results.md",
        runs=invented(errors, {"DARTS1": 0.75})[::-1],
        search=read_config(CONFIG),
        retraining=read_config(NETWORK),
        rates=dict.fromkeys(command.SEARCHES, 0.01),
        sweep_errors={name: {0.01: 4.0, 0.05: 4.5} for name in command.SEARCHES},
        sweep_seeds=2,
        command="python studies/compare_topologies.py --seeds 4",
    )
    text = (tmp_path / "results.md").read_text()
    assert (tmp_path / "results-cells.png").read_bytes().startswith(b"\x89PNG")
    assert "](results-cells.png)" in text
    assert "    python studies/compare_topologies.py --seeds 4\n" in text
    # 6.5 and t(0.975, 3) = 3.182 times the standard error.
    assert "| RARTS | 6.50 ± 2.05 | – | – | 25.0 % | 2,345 | 67,890 | 60 | 12 |" in text
    assert "| DARTS1 | 9.53 ± " in text
    assert "| +3.03 ± 0.04 | < 0.001 | 75.0 % |" in text
    # Nobody has searched for the first of the random cells.
    assert (
        "| random cells | 6.50 ± 2.05 | +0.00 ± 0.00 | 1.000 | 25.0 % | 4,690 | 67,890 | – |"
        in text
    )
    assert "RARTS' have 0.50 of the parameters of random cells" in text
    assert "Over all 32 networks" in text
    assert "RARTS has a significantly lower error than DARTS1." in text
    assert "RARTS has a significantly higher error than random search." in text
    assert "draws 8 genotypes" in text
    assert "trains each for 7 epochs" in text
    assert "RARTS takes 2.00 of the time of second-order DARTS" in text
    assert "most with DARTS1 (75%)" in text
    assert "| DARTS2 | 4.00 | 4.50 | 0.01 |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1"], "--seeds 1: give at least 2; an interval needs two"),
        (["--sweep-seeds", "0"], "--sweep-seeds 0"),
        (["--candidates", "0"], "--candidates 0"),
        (["--retrain-epochs", "0"], "--retrain-epochs 0"),
        (["--out", "page.txt"], "ends in .md"),
    ],
)
def test_bad_arguments_are_refused(module, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        module("compare_topologies").main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_data_is_noticed_before_anything_is_written(module, tmp_path):
    arguments = ["--data", tmp_path / "none", "--work-dir", tmp_path / "work"]
    with pytest.raises(ValueError, match="files are missing"):
        module("compare_topologies").main([str(a) for a in arguments])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_whole_command(module, digits, tmp_path, monkeypatch):
    command = module("compare_topologies")
    monkeypatch.setattr(command, "SEARCHES", ("RARTS", "DARTS1", "DARTS2"))
    monkeypatch.setattr(command, "ALPHA_RATES", (0.01,))
    arguments = ["--data", digits, "--seeds", 2, "--candidates", 2, "--candidate-epochs", 1]
    arguments += ["--epochs", 1, "--retrain-epochs", 1]
    arguments += ["--work-dir", tmp_path / "work", "--out", tmp_path / "page.md"]
    command.main([str(a) for a in arguments])
    first = (tmp_path / "page.md").read_text()
    for name in ("RARTS", "DARTS1", "DARTS2", "random search", "random cells"):
        assert f"\n| {name} | " in first
    results = json.loads((tmp_path / "work" / "results.json").read_text())
    assert len(results["runs"]) == 2 * 4
    # Everything is there: nothing is run again, and the page is the same.
    monkeypatch.setattr(module("topologies.one_search"), "_search", lambda *_: 1 / 0)
    command.main([str(a) for a in arguments])
    assert (tmp_path / "page.md").read_text() == first
