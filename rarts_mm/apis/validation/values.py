"""What the settings of a config must be: a line per key.

To add one: its name with ``*`` for a part of a key and ``**`` for any keys between (entries of lists
are named like their list), what it must be (see :mod:`.kinds`), why, and a value that works.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .kinds import (
    FLAG,
    MAPPING,
    MAPPINGS,
    NONE,
    TEXT,
    Kind,
    choice,
    exactly,
    number,
    several,
    whole,
)
from .walk import Setting, matches, settings


class Rule(NamedTuple):
    """What a setting must be.

    Attributes:
        pattern: which settings, see :func:`.walk.matches`.
        kind: what they must be.
        why: the reason, as a clause.
        example: a value that works, as one writes it on the command line; none where the parts of a
            setting are set one by one.
    """

    pattern: str
    kind: Kind
    why: str
    example: str = ""


# Steps of such a rate leave float32 within a few layers.
_LARGEST_RATE = 1e6
# What MMEngine draws seeds from, and what NumPy takes with the numbers of workers added.
_LARGEST_SEED = 2**31 - 1
# NumPy and torch count in 64 bits, and no run lasts as long as this.
_LARGEST_COUNT = 2**31 - 1


def _is_round(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


_COUNT = Kind("a whole number >= 1 and < 2**31", whole(1, _LARGEST_COUNT).fits)
_COUNT_OR_NEVER = _COUNT | exactly(-1)
_NOT_NEGATIVE = number(0)
_PATH = Kind(
    "a text or None",
    lambda x: x is None or isinstance(x, str) or several(TEXT, 0).fits(x),
)
_SHARE = number(0, 1)
_OPTIONAL_MAPPING = MAPPING | NONE

# Without these nothing inside can be looked at, so they come first.
STRUCTURE = [
    Rule("model", MAPPING, "it says what is built"),
    Rule("optim_wrapper", _OPTIONAL_MAPPING, "it holds the optimiser"),
    Rule("optim_wrapper.**.optimizer", MAPPING, "it names the optimiser"),
    Rule("optim_wrapper.**.paramwise_cfg", _OPTIONAL_MAPPING, "it holds several settings"),
    Rule("optim_wrapper.**.paramwise_cfg.custom_keys", _OPTIONAL_MAPPING, "it goes by names"),
    Rule("optim_wrapper.**.clip_grad", _OPTIONAL_MAPPING, "it holds max_norm"),
    Rule("*_dataloader", _OPTIONAL_MAPPING, "it holds data set and batch size"),
    Rule("*_dataloader.dataset", MAPPING, "it says which data are read"),
    Rule("*_dataloader.sampler", _OPTIONAL_MAPPING, "it says in which order"),
    Rule("*_dataloader.batch_sampler", _OPTIONAL_MAPPING, "it forms batches"),
    Rule("*_dataloader.dataset.**.pipeline", MAPPINGS, "it lists transforms"),
    Rule("train_cfg", _OPTIONAL_MAPPING, "it says how long training lasts"),
    Rule("train_cfg.split", _OPTIONAL_MAPPING, "it holds ratio and seed"),
    Rule("val_cfg", _OPTIONAL_MAPPING, "it names a loop"),
    Rule("test_cfg", _OPTIONAL_MAPPING, "it names a loop"),
    Rule("*_evaluator", MAPPING | MAPPINGS | NONE, "it holds metrics"),
    Rule("param_scheduler", MAPPING | MAPPINGS | NONE, "it holds schedules"),
    Rule("default_hooks", _OPTIONAL_MAPPING, "it holds hooks by name"),
    Rule("default_hooks.*", _OPTIONAL_MAPPING, "it holds a hook's settings"),
    Rule("custom_hooks", MAPPINGS | NONE, "each is a hook's settings"),
    Rule("randomness", MAPPING, "it holds the seed"),
    Rule("env_cfg", MAPPING, "it holds several settings"),
    Rule("env_cfg.mp_cfg", MAPPING, "it holds several settings"),
    Rule("env_cfg.dist_cfg", MAPPING, "it holds several settings"),
    Rule("visualizer", _OPTIONAL_MAPPING, "it holds its settings"),
    Rule("visualizer.vis_backends", MAPPING | MAPPINGS | NONE, "each is a backend"),
    Rule("log_processor", _OPTIONAL_MAPPING, "it holds its settings"),
    Rule("auto_scale_lr", _OPTIONAL_MAPPING, "it holds base_batch_size"),
    Rule("custom_imports", _OPTIONAL_MAPPING, "it holds imports"),
    Rule("model_wrapper_cfg", _OPTIONAL_MAPPING, "it names a wrapper"),
    Rule("baseline", _OPTIONAL_MAPPING, "it replaces settings"),
    Rule("finetune", _OPTIONAL_MAPPING, "it replaces settings"),
    Rule("default_scope", TEXT | NONE, "names are looked up there", "mmdet"),
    Rule("how_to_get", _OPTIONAL_MAPPING, "it goes by paths"),
    Rule("data_preprocessor", _OPTIONAL_MAPPING, "it names a preprocessor"),
]

VALUES = [
    # Data loaders
    Rule("*_dataloader.batch_size", _COUNT, "so many images make a batch", "8"),
    Rule("*_dataloader.num_workers", whole(0, 1024), "so many processes read the data", "2"),
    Rule("*_dataloader.prefetch_factor", _COUNT | NONE, "so many batches wait per worker", "2"),
    Rule("*_dataloader.num_batch_per_epoch", _COUNT | NONE, "an epoch has so many batches", "100"),
    Rule("*_dataloader.timeout", _NOT_NEGATIVE, "so many seconds a batch may take", "0"),
    Rule("*_dataloader.persistent_workers", FLAG, "it is a switch", "True"),
    Rule("*_dataloader.pin_memory", FLAG, "it is a switch", "True"),
    Rule("*_dataloader.drop_last", FLAG, "it is a switch", "False"),
    Rule("*_dataloader.sampler.shuffle", FLAG, "it is a switch", "True"),
    Rule("*_dataloader.dataset.**.data_root", _PATH, "it is a folder's path", "DIR"),
    Rule("*_dataloader.dataset.**.ann_file", _PATH, "it is a file's path", "FILE"),
    Rule("*_dataloader.dataset.**.data_prefix", _PATH | MAPPING, "it is a folder's path", "DIR"),
    Rule("*_dataloader.dataset.**.data_prefix.*", _PATH, "it is a folder's path", "DIR"),
    Rule("*_dataloader.dataset.**.times", _COUNT, "the data are repeated so often", "2"),
    # Length of the training
    Rule("train_cfg.max_epochs", _COUNT, "training lasts so many epochs", "12"),
    Rule("train_cfg.max_iters", _COUNT, "training lasts so many iterations", "10000"),
    Rule(
        "train_cfg.val_interval",
        # 1e3, as MMDetection's configs for iterations write it, is a floating point number.
        Kind(_COUNT.text, lambda x: _COUNT.fits(int(x) if _is_round(x) else x)),
        "validation comes every so many epochs, or iterations",
        "1",
    ),
    Rule("train_cfg.val_begin", whole(0), "validation starts at this epoch", "1"),
    Rule("train_cfg.by_epoch", FLAG, "it is a switch", "True"),
    Rule("train_cfg.strict_resume", FLAG, "it is a switch", "True"),
    Rule("train_cfg.split.seed", whole(0, _LARGEST_SEED), "random numbers start from it", "0"),
    Rule("train_cfg.split.ratio", number(above=0, below=1), "one half gets this share", "0.5"),
    # Optimisers
    Rule(
        "optim_wrapper.**.optimizer.lr",
        number(0, _LARGEST_RATE) | NONE,
        "weights move by it against their gradient",
        "0.01",
    ),
    Rule("optim_wrapper.**.optimizer.weight_decay", _NOT_NEGATIVE, "weights shrink by it", "0.05"),
    Rule("optim_wrapper.**.optimizer.momentum", number(0, below=1), "steps live on by it", "0.9"),
    Rule("optim_wrapper.**.optimizer.nesterov", FLAG, "it is a switch", "False"),
    Rule("optim_wrapper.**.optimizer.amsgrad", FLAG, "it is a switch", "False"),
    Rule(
        "optim_wrapper.**.optimizer.betas",
        several(number(0, below=1)) | NONE,
        "averages live on by them",
        "'(0.9,0.999)'",
    ),
    Rule(
        "optim_wrapper.**.optimizer.eps",
        _NOT_NEGATIVE | several(_NOT_NEGATIVE | NONE) | NONE,
        "divisors are kept off zero by it",
        "1e-8",
    ),
    Rule(
        "optim_wrapper.**.clip_grad.max_norm",
        number(above=0),
        "longer gradients are cut to it; a negative one would turn them round, 0 would stop the training",
        "10",
    ),
    Rule(
        "optim_wrapper.**.clip_grad.clip_value",
        number(above=0),
        "entries of the gradient are cut to it; 0 would stop the training",
        "1",
    ),
    Rule(
        "optim_wrapper.**.clip_grad.norm_type",
        number(above=0) | choice(float("inf"), "inf"),
        "it is the p of the norm",
        "2",
    ),
    Rule("optim_wrapper.**.clip_grad.type", choice("norm", "value"), "there are two", "norm"),
    Rule(
        "optim_wrapper.**.accumulative_counts",
        _COUNT,
        "a step is computed in so many parts",
        "2",
    ),
    Rule(
        "optim_wrapper.**.paramwise_cfg.**.*_mult",
        _NOT_NEGATIVE | NONE,
        "a setting is multiplied by it",
        "0.1",
    ),
    Rule("optim_wrapper.lam", _NOT_NEGATIVE, "it weighs the auxiliary loss", "1.0"),
    Rule("optim_wrapper.beta", _NOT_NEGATIVE, "it couples the two networks", "0.1"),
    Rule("optim_wrapper.alpha_interval", _COUNT, "alpha moves in every such step", "1"),
    Rule("optim_wrapper.alpha_warmup", whole(0), "alpha rests for so many epochs", "0"),
    Rule("auto_scale_lr.base_batch_size", _COUNT, "rates were made for that batch size", "16"),
    Rule("auto_scale_lr.enable", FLAG, "it is a switch", "True"),
    # Schedules
    Rule("param_scheduler.**.begin", whole(0), "the schedule begins there", "0"),
    Rule("param_scheduler.**.end", whole(1), "the schedule ends there", "12"),
    Rule("param_scheduler.**.T_max", _COUNT | NONE, "the cosine takes so long", "12"),
    Rule("param_scheduler.**.step_size", _COUNT, "steps come every so many epochs", "3"),
    Rule("param_scheduler.**.total_iters", _COUNT | NONE, "the schedule lasts so long", "100"),
    Rule("param_scheduler.**.total_steps", _COUNT, "the schedule lasts so long", "100"),
    Rule("param_scheduler.**.milestones", several(whole(0), 0), "steps come there", "'[8,11]'"),
    Rule("param_scheduler.**.gamma", number(above=0), "rates are multiplied by it", "0.1"),
    Rule("param_scheduler.**.factor", _NOT_NEGATIVE, "rates are multiplied by it", "0.1"),
    Rule("param_scheduler.**.start_factor", _SHARE, "rates start at this share", "0.1"),
    Rule("param_scheduler.**.end_factor", _SHARE, "rates end at this share", "1.0"),
    Rule("param_scheduler.**.eta_min", _NOT_NEGATIVE | NONE, "rates end there", "0"),
    Rule("param_scheduler.**.eta_max", _NOT_NEGATIVE | NONE, "rates rise to it", "0.1"),
    Rule("param_scheduler.**.eta_min_ratio", _SHARE | NONE, "rates end at this share", "0.01"),
    Rule("param_scheduler.**.power", number(above=0), "it bends the curve", "1.0"),
    Rule("param_scheduler.**.by_epoch", FLAG, "it is a switch", "True"),
    Rule("param_scheduler.**.convert_to_iter_based", FLAG, "it is a switch", "True"),
    # Hooks and logs
    Rule("default_hooks.logger.interval", _COUNT, "a line comes every so many steps", "50"),
    Rule(
        "default_hooks.checkpoint.interval",
        _COUNT_OR_NEVER,
        "a checkpoint is written every so many epochs, with -1 only at the end",
        "1",
    ),
    Rule("default_hooks.checkpoint.max_keep_ckpts", _COUNT_OR_NEVER, "older ones go", "2"),
    Rule("default_hooks.checkpoint.by_epoch", FLAG, "it is a switch", "True"),
    Rule("default_hooks.checkpoint.save_optimizer", FLAG, "it is a switch", "True"),
    Rule("default_hooks.checkpoint.save_param_scheduler", FLAG, "it is a switch", "True"),
    Rule("default_hooks.checkpoint.save_last", FLAG, "it is a switch", "True"),
    Rule(
        "default_hooks.checkpoint.save_best",
        TEXT | several(TEXT) | NONE,
        "it is a metric's name",
        "auto",
    ),
    Rule("default_hooks.*.draw", FLAG, "it is a switch", "True"),
    Rule("default_hooks.*.interval", _COUNT_OR_NEVER, "it acts every so many steps", "50"),
    Rule("custom_hooks.interval", _COUNT_OR_NEVER, "it acts every so many steps", "50"),
    Rule("*_hooks.**.priority", whole(0, 100) | TEXT, "it orders the hooks", "NORMAL"),
    Rule("log_processor.window_size", _COUNT, "values are averaged over so many steps", "50"),
    Rule("log_processor.by_epoch", FLAG, "it is a switch", "True"),
    Rule(
        "log_level",
        choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL") | whole(0),
        "it says what is logged",
        "INFO",
    ),
    # Environment
    Rule(
        "randomness.seed",
        whole(0, _LARGEST_SEED) | NONE,
        "random numbers start from it, with None from one that is drawn",
        "0",
    ),
    Rule("randomness.deterministic", FLAG, "it is a switch", "True"),
    Rule("randomness.diff_rank_seed", FLAG, "it is a switch", "False"),
    Rule("env_cfg.cudnn_benchmark", FLAG, "it is a switch", "False"),
    Rule("env_cfg.mp_cfg.opencv_num_threads", whole(0, 1024), "so many threads run", "0"),
    Rule(
        "env_cfg.mp_cfg.mp_start_method",
        choice("fork", "spawn", "forkserver"),
        "workers start in this way",
        "fork",
    ),
    Rule("env_cfg.resource_limit", whole(1, 2**20), "so many files may be open", "4096"),
    Rule("resume", FLAG, "it is a switch", "False"),
    Rule("load_from", TEXT | NONE, "it is a checkpoint's path", "PATH"),
    Rule("work_dir", TEXT | NONE, "it is a folder's path", "DIR"),
    Rule("experiment_name", TEXT | NONE, "logs are called so", "NAME"),
    Rule("custom_imports.imports", TEXT | several(TEXT, 0), "they are modules' names", "rarts_mm"),
    # Models
    Rule("model.networks", choice(1, 2), "a search trains one network or two", "2"),
    Rule(
        "model.**.loss_weight",
        _NOT_NEGATIVE | several(_NOT_NEGATIVE) | MAPPING | NONE,
        "a term of the loss is multiplied by it",
        "1.0",
    ),
    Rule("model.**.drop_path_rate", _SHARE, "it is a probability", "0.1"),
]


def wrong_values(cfg: Mapping[str, Any], rules: list[Rule]) -> list[str]:
    """A sentence for every setting that is not what a table wants."""
    by_end: dict[str, list[Rule]] = {}
    for rule in rules:
        by_end.setdefault(rule.pattern.rpartition(".")[2], []).append(rule)
    wild = [rule for end, found in by_end.items() if "*" in end for rule in found]
    problems = []
    for setting in settings(cfg):
        for rule in (*by_end.get(setting.path[-1], ()), *wild):
            if matches(rule.pattern, setting.path):
                if not rule.kind.fits(setting.value):
                    problems.append(_sentence(setting, rule))
                # The first line that names a setting decides.
                break
    return problems


def _sentence(setting: Setting, rule: Rule) -> str:
    shown = repr(setting.value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    text = f"{setting.name}={shown} must be {rule.kind.text}: {rule.why}"
    if not rule.example:
        return f"{text}; its parts are set one by one, {setting.name}.KEY=VALUE"
    return f"{text}; for example {setting.name}={rule.example}"


def not_a_number(cfg: Mapping[str, Any]) -> list[str]:
    """A sentence for every NaN, which no setting can mean."""
    return [
        f"{setting.name}={setting.value!r} is no number (NaN); give one"
        for setting in settings(cfg)
        if any(isinstance(x, float) and x != x for x in _flat(setting.value))
    ]


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [x for each in value for x in _flat(each)]
    return [value]
