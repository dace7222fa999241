"""The comparison of searches: its runs, its statistics against closed forms, its page."""

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from rarts_mm.apis import load_search
from rarts_mm.widths import find_units, importance, rank_scores

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "sidt_swin_micro_digits.py"


@pytest.fixture(scope="module", autouse=True)
def _importable():
    sys.path.insert(0, str(ROOT / "studies"))
    yield
    sys.path.remove(str(ROOT / "studies"))


@pytest.fixture
def module():
    return importlib.import_module


@pytest.fixture(scope="module")
def options(digits):
    """Settings of a comparison of an epoch each, as the command line makes them."""
    command = importlib.import_module("compare_searches")
    arguments = ["--data", str(digits), "--epochs", "1", "--finetune-epochs", "1"]
    return command.settings(command.parse_args(arguments))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, options):
    """Two tasks of one seed and their folders: a search, and a training that is pruned otherwise."""
    one_search = importlib.import_module("width_searches.one_search")
    work = tmp_path_factory.mktemp("work")
    tasks = {
        "RARTS": one_search.Task(
            "RARTS", 3, ("alpha",), (("parameters", 0.5), ("scores", 0.4)), "test", options
        ),
        "WeightsOnly": one_search.Task(
            "WeightsOnly", 3, ("unpruned", "random"), (("scores", 0.4),), "val", options
        ),
    }
    results = {n: one_search.perform(t, work / n, str(CONFIG)) for n, t in tasks.items()}
    return work, tasks, results


# One run.


@pytest.mark.slow
def test_every_model_is_measured_before_and_after_finetuning(runs):
    _, _, results = runs
    of_search, of_training = results["RARTS"], results["WeightsOnly"]
    # 500 images in each half, batches of 50; fine-tuning sees all 1000.
    assert of_search["steps"] == of_training["steps"] == 10
    assert of_search["seconds"] > 0
    found = [(m["criterion"], m["budget"]) for r in results.values() for m in r["models"]]
    assert found == [
        ("alpha", ["parameters", 0.5]),
        ("alpha", ["scores", 0.4]),
        ("unpruned", None),
        ("random", ["scores", 0.4]),
    ]
    images = {"RARTS": 540, "WeightsOnly": 257}
    for name, result in results.items():
        for model in result["models"]:
            assert model["finetune_steps"] == 20
            for key in ("error", "error_before"):
                wrong = model[key] / 100 * images[name]
                assert wrong == pytest.approx(round(wrong), abs=1e-3), "counted on another split"
            assert model["error"] < model["error_before"]
    unpruned, random = of_training["models"]
    assert unpruned["left"] == dict(attention=1.0, mlp=1.0)
    assert random["parameters"] < unpruned["parameters"]
    assert random["flops"] < unpruned["flops"]
    # 83 of the 208 scores: 16 of attention, 192 of MLPs.
    left = 16 * random["left"]["attention"] + 192 * random["left"]["mlp"]
    assert left == pytest.approx(208 - 83)


@pytest.mark.slow
def test_all_searches_of_a_seed_start_and_are_fed_alike(runs):
    work, _, _ = runs
    initial = [
        torch.load(work / name / "initial.pth", weights_only=False)["state_dict"]
        for name in ("RARTS", "WeightsOnly")
    ]
    assert initial[0].keys() == initial[1].keys()
    assert all(torch.equal(initial[0][key], initial[1][key]) for key in initial[0])
    configs = [(work / name / "search.py").read_text() for name in ("RARTS", "WeightsOnly")]
    assert all("split=dict(ratio=0.5, seed=3)" in text for text in configs)
    assert all("randomness = dict(seed=3)" in text for text in configs)


@pytest.mark.slow
def test_the_parameter_budget_is_reached_with_the_least_pruning(runs, module):
    work, _, results = runs
    search = load_search(work / "RARTS/search.py", work / "RARTS/search/epoch_1.pth")
    units, _ = find_units(search.model.kept)
    scores = importance(search.model.kept)
    prunable = sum(unit.size * unit.parameters_per_score for unit in units)

    def removed(count):
        kept = rank_scores(scores, count / 208)
        return sum((u.size - len(kept[u.name])) * u.parameters_per_score for u in units)

    by_parameters, by_scores = results["RARTS"]["models"]
    count = round(208 * by_parameters["ratio"])
    assert removed(count) >= prunable / 2 > removed(count - 1)
    whole = results["WeightsOnly"]["models"][0]["parameters"]
    assert whole - by_parameters["parameters"] == removed(count)
    assert by_scores["ratio"] == 0.4


@pytest.mark.slow
def test_a_finished_run_is_not_repeated_and_a_broken_one_is(runs, module, tmp_path, monkeypatch):
    work, tasks, results = runs
    one_search = module("width_searches.one_search")
    again = one_search.perform(tasks["RARTS"], work / "RARTS", str(CONFIG))
    assert again == results["RARTS"] | dict(task=json.loads(json.dumps(results["RARTS"]["task"])))

    monkeypatch.setattr(one_search, "_perform", lambda task, config, folder: dict(done=task.seed))
    (tmp_path / "broken" / "search").mkdir(parents=True)
    (tmp_path / "broken" / "search" / "last_checkpoint").write_text("left over")
    assert one_search.perform(tasks["RARTS"], tmp_path / "broken", str(CONFIG)) == dict(done=3)
    assert not (tmp_path / "broken" / "search").exists()


@pytest.mark.parametrize(
    ("name", "networks", "uses"),
    [
        ("RARTS", 2, {"lam", "beta"}),
        ("DARTS2", 1, set()),
        ("MiLeNAS", 1, {"lam"}),
        ("WeightsOnly", 1, {"lam"}),
    ],
)
def test_the_config_of_a_search(module, options, name, networks, uses):
    rate = {"optim_wrapper.alpha": dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=7.0))}
    task = module("width_searches.one_search").Task(
        name, 5, ("alpha",), (), "val", {**options, **rate}
    )
    cfg = module("width_searches.one_search").config_of(task, str(CONFIG))
    assert cfg.model.networks == networks
    assert cfg.optim_wrapper.alternation == dict(type=name)
    assert {"lam", "beta"} & cfg.optim_wrapper.keys() == uses
    assert cfg.test_dataloader.dataset.data_prefix == "val"
    if name == "WeightsOnly":
        assert cfg.optim_wrapper.penalty is None
        assert "alpha" not in cfg.optim_wrapper
    else:
        assert cfg.optim_wrapper.alpha.optimizer.lr == 7.0


# The choice of the rates.


def test_the_rate_with_the_lowest_validation_error_is_chosen(module):
    command = module("compare_searches")
    args = command.parse_args(["--sweep-seeds", "2", "--shares", "0.7", "0.3"])
    tasks = command.sweep_tasks(args, {})
    rates = command.ALPHA_RATES
    assert len(tasks) == 2 * len(command.SEARCHES) * len(rates)
    assert {t.test_on for t in tasks.values()} == {"val"}
    assert {t.budgets for t in tasks.values()} == {(("parameters", 0.7),)}
    final = command.final_tasks(args, {}, dict.fromkeys(command.SEARCHES, rates[0]))
    assert not {t.seed for t in tasks.values()} & {t.seed for t in final.values()}
    assert {t.test_on for t in final.values()} == {"test"}

    def error(task):
        rate = task.options["optim_wrapper.alpha"]["optimizer"]["lr"]
        if task.alternation == "DARTS1":
            return dict(error=2.0, error_before=10.0 - rate)
        best = rates[command.SEARCHES.index(task.alternation) % len(rates)]
        # The two seeds disagree; their mean decides.
        return dict(error=(rate != best) + task.seed % 2, error_before=0.0)

    results = {folder: dict(models=[error(task)]) for folder, task in tasks.items()}
    chosen, means = command.choose_rates(tasks, results)
    for i, name in enumerate(command.SEARCHES):
        assert chosen[name] == (max(rates) if name == "DARTS1" else rates[i % len(rates)])
    assert means["RARTS"][rates[0]] == (0.5, 0.0)
    assert means["RARTS"][rates[1]] == (1.5, 0.0)


# Statistics.


def test_interval_is_students(module):
    interval = module("evidence.comparison").interval
    # With two values the t distribution is Cauchy's: tan(0.475 pi) times half their distance.
    found = interval([1.0, 4.0])
    assert found.mean == 2.5
    assert found.half == pytest.approx(math.tan(0.475 * math.pi) * 1.5)
    # Three values: t = q sqrt(2 / (1 - q^2)) with q = 0.95.
    found = interval([0.0, 3.0, 6.0])
    assert found.half == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)) * math.sqrt(3))
    with pytest.raises(ValueError, match="two values or more, got 1"):
        interval([1.0])


def test_differences_are_paired(module):
    differences = module("evidence.comparison").differences
    # Far apart in level, from seed to seed, but always one or two apart from each other.
    first, second = [11.0, 52.0, 93.0], [10.0, 50.0, 92.0]
    found = differences({"a": (first, second)})["a"]
    assert found.interval.mean == pytest.approx(4 / 3)
    t = (4 / 3) / (1 / 3)
    # Of two degrees of freedom: p = 1 - t / sqrt(2 + t^2).
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert found.adjusted == found.p
    assert not found.significant
    same = differences({"a": (first, first), "b": (first, [x - 1 for x in first])})
    assert (same["a"].p, same["a"].significant) == (1.0, False)
    assert (same["b"].p, same["b"].significant) == (0.0, True)


def test_holm(module):
    holm = module("evidence.comparison").holm
    assert holm(dict(a=0.01, b=0.04, c=0.03)) == pytest.approx(dict(a=0.03, b=0.06, c=0.06))
    assert holm(dict(a=0.5, b=0.9)) == pytest.approx(dict(a=1.0, b=1.0))


# The page.


def invented(module, errors):
    """Results of runs: errors by method, the same for every budget."""
    methods = module("compare_searches").METHODS
    runs = {}
    for method in methods:
        for seed, error in enumerate(errors[method.name]):
            run = runs.setdefault(
                (method.search, seed),
                dict(
                    task=dict(alternation=method.search, seed=seed),
                    seconds=4.0 if method.search == "Joint" else 6.0,
                    steps=10,
                    models=[],
                ),
            )
            whole = method.criterion == "unpruned"
            for budget in [None] if whole else [["parameters", 0.4], ["scores", 0.4]]:
                run["models"].append(
                    dict(
                        criterion=method.criterion,
                        budget=budget,
                        ratio=0.0 if whole else 0.4,
                        parameters=18720 if whole else 12000,
                        flops=110912 if whole else 70000,
                        left=dict(attention=0.75, mlp=0.5),
                        error=error,
                        error_before=error + 20,
                        finetune_steps=20,
                    )
                )
    return list(runs.values())


def test_the_page_says_what_the_numbers_say(module, tmp_path):
    from rarts_mm.apis import read_config

    command, page = module("compare_searches"), module("width_searches.page")
    seeds = [5.0, 7.0, 6.0, 8.0]
    errors = {method.name: seeds for method in command.METHODS}
    # Clearly worse, clearly better, and not to be told apart.
    errors["DARTS1"] = [e + 3 + 0.02 * i for i, e in enumerate(seeds)]
    errors["random scores"] = [e - 3 + 0.02 * i for i, e in enumerate(seeds)]
    errors["Joint"] = [4.0, 8.0, 7.0, 7.5]
    write = tmp_path / "results.md"
    page.write_page(
        write,
        methods=command.METHODS,
        runs=invented(module, errors)[::-1],
        cfg=read_config(CONFIG),
        rates=dict.fromkeys(command.SEARCHES, 0.01),
        sweep_errors={name: {0.01: (4.0, 30.0), 0.05: (4.5, 29.0)} for name in command.SEARCHES},
        sweep_seeds=2,
        command="python studies/compare_searches.py --seeds 4",
    )
    text = write.read_text()
    assert (tmp_path / "results-digits.png").read_bytes().startswith(b"\x89PNG")
    assert "](results-digits.png)" in text
    assert "    python studies/compare_searches.py --seeds 4\n" in text
    # 6.5 and t(0.975, 3) = 3.182 times the standard error.
    assert "| RARTS | 6.50 ± 2.05 | – | – | 26.50 ± 2.05 | 12,000 | 70,000 | 40.0 % |" in text
    (row, _) = (line for line in text.splitlines() if line.startswith("| DARTS1 | 9"))
    assert row.split(" | ")[2:4] == ["+3.03 ± 0.04", "< 0.001"]
    (sentence, _) = (line for line in text.splitlines() if "40 %" in line and "- **" in line)
    assert "RARTS has a significantly lower error than DARTS1. RARTS has a sign" in sentence
    assert "significantly higher error than random scores. No significant" in sentence
    rest = "RARTSJacobi, DARTS2, MiLeNAS, Joint, magnitude, unpruned."
    assert f"No significant difference between RARTS and {rest}" in sentence
    assert "(lowest: random scores, 3.53 %; highest: DARTS1, 9.53 %)" in sentence
    assert "| RARTS | 6.0 | 1.50 | RARTS |" in text
    assert "| WeightsOnly | 6.0 | 1.50 | magnitude, random scores, unpruned |" in text
    assert "| DARTS2 | 4.00 (30.0) | 4.50 (29.0) | 0.01 |" in text
    # Both of two rates are an end of the range.
    assert "For RARTS, RARTSJacobi, DARTS1, DARTS2, MiLeNAS, Joint the lowest error is" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1"], "--seeds 1: give at least 2; an interval needs two"),
        (["--sweep-seeds", "0"], "--sweep-seeds 0"),
        (["--epochs", "0"], "--epochs 0"),
        (["--shares", "0.4", "1.2"], "--shares 1.2"),
        (["--out", "page.txt"], "ends in .md"),
    ],
)
def test_bad_arguments_are_refused(module, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        module("compare_searches").main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_data_is_noticed_before_anything_is_written(module, tmp_path):
    arguments = ["--data", tmp_path / "none", "--work-dir", tmp_path / "work"]
    with pytest.raises(ValueError, match="files are missing"):
        module("compare_searches").main([str(a) for a in arguments])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_leaves_no_worker_behind(digits, tmp_path, number, status):
    command = [sys.executable, ROOT / "studies" / "compare_searches.py", "--data", digits]
    command += ["--work-dir", tmp_path / "work", "--out", tmp_path / "page.md"]
    process = subprocess.Popen(
        [str(c) for c in command],
        stderr=subprocess.PIPE,
        text=True,
        # Of its own, so that what is left of it can be found; and Ctrl-C is for a foreground one.
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        begun = time.monotonic()
        while not list(tmp_path.glob("work/sweep/*/*/search")):
            assert process.poll() is None
            assert time.monotonic() - begun < 120
            time.sleep(0.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == status, err
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
def test_the_whole_command(module, digits, tmp_path, monkeypatch, capsys):
    command = module("compare_searches")
    monkeypatch.setattr(command, "SEARCHES", ("RARTS", "Joint"))
    keep = {"RARTS", "Joint", "WeightsOnly"}
    monkeypatch.setattr(command, "METHODS", [m for m in command.METHODS if m.search in keep])
    arguments = ["--data", digits, "--seeds", 2, "--sweep-seeds", 1, "--shares", 0.5]
    arguments += ["--epochs", 1, "--finetune-epochs", 1]
    arguments += ["--work-dir", tmp_path / "work", "--out", tmp_path / "page.md"]
    command.main([str(a) for a in arguments])
    first = (tmp_path / "page.md").read_text()
    for name in ("RARTS", "Joint", "magnitude", "random scores", "unpruned"):
        assert first.count(f"\n| {name} | ") >= 2
    results = json.loads((tmp_path / "work" / "results.json").read_text())
    assert len(results["runs"]) == 2 * 3
    # Everything is there: nothing is run again, and the page is the same.
    monkeypatch.setattr(module("width_searches.one_search"), "_perform", lambda *_: 1 / 0)
    command.main([str(a) for a in arguments])
    assert (tmp_path / "page.md").read_text() == first
