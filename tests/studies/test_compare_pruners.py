"""The comparison of pruners: its runs, its choices, its section of the page."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rarts_mm.apis import load_search, read_config

ROOT = Path(__file__).parents[2]
SWIN = ROOT / "configs" / "sidt_swin_micro_digits.py"


@pytest.fixture(scope="module", autouse=True)
def _importable():
    sys.path.insert(0, str(ROOT / "studies"))
    yield
    sys.path.remove(str(ROOT / "studies"))


@pytest.fixture
def module():
    return importlib.import_module


@pytest.fixture(scope="module")
def runs(tmp_path_factory, digits):
    """A plain training with its unpruned network, and uniform prunings of it with every training."""
    pruners = importlib.import_module("pruning.pruners")
    work = tmp_path_factory.mktemp("work")
    options = pruners.options_of(SWIN, str(digits), 1, 1)
    task = pruners.SearchTask(str(SWIN), "WeightsOnly", 3, "val", options, whole=True)
    plain = pruners.run_search(task, work / "plain")
    prunings = {
        (scope, seed): pruners.run_pruning(
            pruners.PruningTask(
                str(work / "plain"),
                str(work / "plain"),
                0.6,
                "random",
                scope,
                seed,
                tuple(pruners.TRAININGS) if (scope, seed) == ("layer", 3) else (),
            ),
            work / f"{scope}{seed}",
        )
        for scope, seed in (("layer", 3), ("layer", 4), ("global", 3))
    }
    return work, plain, prunings


@pytest.mark.slow
def test_every_pruning_has_the_uniform_networks_flops(runs, module):
    work, plain, prunings = runs
    # 16 dimensions of heads (8 for each block) and 64 + 128 hidden ones, less 60 %: 3 of 8 stay.
    search = load_search(work / "plain/search.py", work / "plain/search/epoch_1.pth")
    left = {64: 26, 128: 51, 8: 3}
    budget = module("pruning.pruners").uniform_flops(search, 0.6)
    costs = importlib.import_module("rarts_mm.analysis.width_costs").WidthCosts(search.network)
    cost = costs.flops((8, 8))
    assert budget == cost({name: left[size] for name, size in cost.sizes.items()})
    assert cost.whole == plain["flops"]
    for result in prunings.values():
        assert result["budget"] == budget
        assert 0.98 * budget <= result["flops"] <= budget
        assert result["parameters"] < plain["parameters"]
    for seed in (3, 4):
        record = json.loads((work / f"layer{seed}/pruned/widths.json").read_text())
        kept = {unit["size"]: len(unit["kept"]) for unit in record["units"].values()}
        assert all(abs(kept[size] - number) <= 1 for size, number in left.items())
    widths = {
        folder: json.loads((work / folder / "pruned/widths.json").read_text())["units"]
        for folder in ("layer3", "layer4", "global3")
    }
    assert widths["layer3"] != widths["layer4"]
    assert widths["layer3"] != widths["global3"]


@pytest.mark.slow
def test_every_training_is_the_one_it_is_called(runs):
    work, plain, prunings = runs
    trainings = prunings["layer", 3]["trainings"]
    # 20 steps for 1000 images; from scratch half an epoch for the search's, rounded up, and one.
    steps = {name: found["finetune_steps"] for name, found in trainings.items()}
    assert steps == dict(finetune=20, distill=20, tas=20, scratch=40)
    assert (plain["steps"], plain["finetune_steps"]) == (10, 20)
    for found in [plain, *trainings.values()]:
        wrong = found["error"] / 100 * 257
        assert wrong == pytest.approx(round(wrong), abs=1e-3), "not counted on validation data"

    models = {
        name: read_config(next((work / "layer3" / name).glob("*.py"))).model for name in trainings
    }
    assert (models["finetune"].type, models["scratch"].type) == ("rarts_mm.PrunedModel",) * 2
    weights = {
        name: (models[name].temperature, models[name].task_weight, models[name].kd_weight)
        for name in ("distill", "tas")
    }
    # 0.9 * 4^2 = 14.4.
    assert weights == dict(distill=(4.0, 1.0, 1.0), tas=(4.0, 0.1, 14.4))
    teacher = Path(models["tas"].teacher_checkpoint)
    assert teacher == work / "plain/finetune/epoch_1.pth"
    loaded = {
        name: read_config(next((work / "layer3" / name).glob("*.py"))).get("load_from")
        for name in ("finetune", "scratch")
    }
    assert loaded == dict(finetune=str(work / "layer3/pruned/pruned.pth"), scratch=None)

    def first(name):
        path = next((work / "layer3" / name).glob("epoch_*.pth"))
        state = torch.load(path, weights_only=False)["state_dict"]
        return state["backbone.patch_embed.projection.weight"]

    ends = [first(name) for name in trainings]
    assert all(not torch.equal(a, b) for i, a in enumerate(ends) for b in ends[:i])


@pytest.mark.parametrize("key", ["preresnet", "mobilenet", "swin"])
def test_the_joint_search_is_network_slimming_where_there_are_batch_norms(module, key):
    command, pruners = module("compare_pruners"), module("pruning.pruners")
    network = command.NETWORKS[key]
    options = pruners.options_of(command.config_of(network), None, 1, 1)
    task = command.search_task(network, "Joint", 5, "test", options, 0.25)
    cfg = module("evidence.training").search_config(
        task.config, task.alternation, task.seed, task.test_on, task.options
    )
    assert (cfg.model.networks, cfg.optim_wrapper.alternation.type) == (1, "Joint")
    assert cfg.optim_wrapper.penalty.type == "L1Penalty"
    alpha = cfg.optim_wrapper.alpha.optimizer
    assert (alpha.lr, alpha.weight_decay) == (0.25, 0.0)
    slimming = key != "swin"
    assert ((cfg.model.get("space") or {}).get("type") == "BatchNormSpace") == slimming
    assert (network.joint == "Network Slimming") == slimming
    assert cfg.train_cfg.split.seed == cfg.randomness.seed == 5
    plain = command.search_task(network, "WeightsOnly", 5, "test", options, None)
    assert plain.whole
    assert "space" not in "".join(plain.options)


def test_the_rate_with_the_lowest_validation_error_is_chosen(module, tmp_path):
    command = module("compare_pruners")
    args = command.parse_args(["--sweep-seeds", "2", "--ratios", "0.8", "0.3"])
    options = {key: {} for key in args.networks}
    searches, prunings = command.sweep_tasks(args, options, tmp_path)
    rates = command.ALPHA_RATES
    assert len(searches) == len(prunings) == 2 * 2 * len(rates) * len(args.networks)
    assert {task.test_on for task in searches.values()} == {"val"}
    assert {task.share for task in prunings.values()} == {0.8}
    seeds = {task.seed for task in searches.values()}

    results = {}
    for folder, task in prunings.items():
        _, network, search, _, _ = folder.split("/")
        name, _, rate = search.partition("-")
        best = rates[1] if name == "RARTS" else rates[0]
        # The two seeds disagree; their mean decides. All equal: the smallest.
        error = 1.0 if network == "swin" else 2 * (float(rate) != best) + task.seed % 2
        results[folder] = dict(trainings=dict(finetune=dict(error=error)))
    chosen, errors = command.choose_rates(args, results)
    assert chosen["preresnet"] == dict(RARTS=rates[1], Joint=rates[0])
    assert chosen["swin"] == dict(RARTS=rates[0], Joint=rates[0])
    assert errors["mobilenet"]["RARTS"] == {rates[0]: 2.5, rates[1]: 0.5}

    searches, prunings = command.final_tasks(args, options, chosen, tmp_path)
    assert len(searches) == 3 * 3 * args.seeds
    assert len(prunings) == 3 * 5 * 2 * args.seeds
    assert {task.test_on for task in searches.values()} == {"test"}
    assert not seeds & {task.seed for task in searches.values()}
    # Every pruning finds its search and its teacher, of its own network and seed.
    of = {str(tmp_path / folder): task for folder, task in searches.items()}
    for folder, task in prunings.items():
        assert of[task.search].seed == of[task.teacher].seed == task.seed
        assert of[task.search].config == of[task.teacher].config
        assert of[task.teacher].whole
        _, network, seed, search, name = folder.split("/")
        assert of[task.search].config.endswith(command.NETWORKS[network].config)
        assert seed == f"seed{task.seed}"
        assert search.partition("-")[0] == of[task.search].alternation
        assert name.endswith(f"_{100 * task.share:g}")


# The page.


def invented(module, errors, networks=("preresnet", "swin"), ratios=(0.4, 0.8)):
    """Records with errors by method and ratio of every seed; unpruned: 3, 4, 5, 6."""
    page = module("pruning.page")
    found = []
    for network in networks:
        for (pruning, training), name in page.METHODS.items():
            for ratio in (0.0,) if pruning is None else ratios:
                for seed, error in enumerate(errors(name, ratio)):
                    found.append(
                        page.Record(
                            network=network,
                            pruning=pruning,
                            training=training,
                            ratio=ratio,
                            seed=seed,
                            error=error,
                            parameters=round(20000 * (1 - ratio / 2)),
                            flops=round(100000 * (1 - ratio)),
                            steps=500 if training == "scratch" else 200,
                        )
                    )
    return found


def test_the_section_says_what_the_numbers_say(module, tmp_path):
    page, command, pruners = (
        module(n) for n in ("pruning.page", "compare_pruners", "pruning.pruners")
    )
    seeds = np.array([5.0, 7.0, 6.0, 8.0])
    noise = np.array([0.0, 0.02, 0.04, 0.06])

    def errors(name, ratio):
        if name == "unpruned":
            return seeds - 3 - noise
        if name == "magnitude":
            return seeds + 2 + noise
        if name == "uniform + TAS' KD":
            return seeds - 1 - noise if ratio == 0.8 else seeds + 1 + noise[::-1]
        return seeds

    configs = {
        key: read_config(
            command.config_of(page.NETWORKS[key]),
            pruners.options_of(command.config_of(page.NETWORKS[key]), None, None, None),
        )
        for key in ("preresnet", "swin")
    }
    write = tmp_path / "results.md"
    write.write_text("# Mine\n\n<!-- searches: begin -->\nthat\n<!-- searches: end -->\n")
    page.write_page(
        write,
        records=invented(module, errors)[::-1],
        configs=configs,
        seconds={k: dict(RARTS=30.0, Joint=20.0, WeightsOnly=19.0) for k in configs},
        rates={k: dict(RARTS=0.01, Joint=0.05) for k in configs},
        sweep_errors={
            k: dict(RARTS={0.01: 1.5, 0.05: 2.5}, Joint={0.01: 3.0, 0.05: 2.0}) for k in configs
        },
        sweep_seeds=1,
        command="python studies/compare_pruners.py --seeds 4",
    )
    text = write.read_text()
    assert text.startswith("# Mine\n\n<!-- searches: begin -->\nthat\n<!-- searches: end -->\n")
    assert (tmp_path / "results-pruners.png").read_bytes().startswith(b"\x89PNG")
    assert "](results-pruners.png)" in text
    assert "    python studies/compare_pruners.py --seeds 4\n" in text
    lines = text.splitlines()
    (row, _) = (x for x in lines if x.startswith("| magnitude | 8"))
    # 6.5 + 2.03; and it differs, as does unpruned, from the seeds' 5 to 8.
    assert row.startswith("| magnitude | 8.53 ± ")
    assert row.count(" * |") == 2
    (row, _) = (x for x in lines if x.startswith("| uniform | 6"))
    assert "*" not in row
    (row, _) = (x for x in lines if x.startswith("| random | 1"))
    assert row == "| random | 16,000 / 60,000 | 12,000 / 20,000 |"
    (row,) = (x for x in lines if x.startswith("| Swin | magnitude | +2.03 "))
    assert row.split(" | ")[3].strip() == "< 0.001"
    (sentence,) = (x for x in lines if x.startswith("- **Swin**"))
    assert "RARTS has a significantly lower error than magnitude." in sentence
    assert "RARTS has a significantly higher error than unpruned." in sentence
    assert (
        "RARTS' widths from scratch, joint training, random, uniform, uniform + TAS' KD."
        in sentence
    )
    after = lines[lines.index(sentence) + 1]
    assert "uniform + TAS' KD at 40 % (+1.03), unpruned at 40 % (-3.03)" in after
    assert "uniform + TAS' KD at 80 % (-1.03)" in after
    (sentence,) = (x for x in lines if x.startswith("- **PreResNet-20**"))
    assert "Network Slimming" in sentence
    assert "| Swin | joint training | 3.00 | 2.00 | 0.05 |" in text
    assert "| PreResNet-20 | 30.0 | 20.0 | 19.0 |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1"], "--seeds 1: give at least 2; an interval needs two"),
        (["--finetune-epochs", "0"], "--finetune-epochs 0"),
        (["--ratios", "0.4", "1.2"], "--ratios 1.2"),
        (["--networks", "vgg"], "invalid choice: 'vgg'"),
        (["--out", "page.txt"], "ends in .md"),
    ],
)
def test_bad_arguments_are_refused(module, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        module("compare_pruners").main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_data_is_noticed_before_anything_is_written(module, tmp_path):
    arguments = ["--data", tmp_path / "none", "--work-dir", tmp_path / "work"]
    with pytest.raises(ValueError, match="files are missing"):
        module("compare_pruners").main([str(a) for a in arguments])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_whole_command(module, digits, tmp_path, monkeypatch):
    command = module("compare_pruners")
    monkeypatch.setattr(command, "ALPHA_RATES", (1e-2,))
    arguments = ["--data", digits, "--networks", "preresnet", "swin", "--seeds", 2]
    arguments += ["--ratios", 0.5, "--epochs", 1, "--finetune-epochs", 1]
    arguments += ["--work-dir", tmp_path / "work", "--out", tmp_path / "page.md"]
    command.main([str(a) for a in arguments])
    first = (tmp_path / "page.md").read_text()
    for name in ("RARTS", "RARTS + KD", "Network Slimming", "joint training", "unpruned"):
        assert f"\n| {name} | " in first
    results = json.loads((tmp_path / "work" / "results.json").read_text())
    assert len(results["records"]) == 2 * 2 * 9
    # Everything is there: nothing is run again, and the page is the same.
    monkeypatch.setattr(module("pruning.pruners"), "_search", lambda *_: 1 / 0)
    monkeypatch.setattr(module("pruning.pruners"), "_prune", lambda *_: 1 / 0)
    command.main([str(a) for a in arguments])
    assert (tmp_path / "page.md").read_text() == first
