"""Random command lines, most of them nonsense, drawn by a seed."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rarts_mm.apis import read_config
from rarts_mm.apis.validation.walk import settings

# No number in between: 500 workers or a million epochs would be a valid wish.
NONSENSE = (
    *("0", "-1", "1.5", "-0.5", "nan", "inf", "-inf", "1e300", "1e-300", "None", "True", "False"),
    *("x", "", "[]", "[1]", "[x,y]", "(1,2)", "[[1],[2]]", str(2**64), str(-(2**64)), "é\n", "'"),
    "1",
)
# Of a config, what a run reads; the rest are names that the config itself uses.
READ = (
    *("model", "optim_wrapper", "train_cfg", "val_cfg", "test_cfg", "param_scheduler"),
    *("train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator"),
    *("default_hooks", "custom_hooks", "randomness", "env_cfg", "visualizer", "log_processor"),
    *("auto_scale_lr", "default_scope", "log_level", "load_from", "resume", "baseline", "finetune"),
    *("custom_imports", "model_wrapper_cfg"),
)
# Keys that no small config gives, and that are read where they are given.
OTHERS = (
    *("train_dataloader.prefetch_factor", "train_dataloader.persistent_workers", "randomness.seed"),
    *("train_dataloader.drop_last", "train_dataloader.timeout", "train_cfg.val_begin"),
    *("optim_wrapper.weights.clip_grad.max_norm", "optim_wrapper.weights.clip_grad.norm_type"),
    *("optim_wrapper.alpha.clip_grad.clip_value", "optim_wrapper.accumulative_counts"),
    *("optim_wrapper.weights.accumulative_counts", "optim_wrapper.alpha_interval"),
    *("optim_wrapper.alpha_warmup", "optim_wrapper.coupling", "optim_wrapper.amp.dtype"),
    *("param_scheduler.0.T_max", "default_hooks.checkpoint.max_keep_ckpts", "model.networks"),
    *("default_hooks.checkpoint.save_best", "default_hooks.checkpoint.by_epoch", "model.keep"),
    *("env_cfg.resource_limit", "env_cfg.mp_cfg.mp_start_method", "model.space.type"),
    *("model.space.include", "model.space.exclude", "train_cfg.split.seed", "work_dir"),
    *("train_cfg.strict_resume", "train_cfg.dynamic_intervals", "activation_checkpointing"),
    *("auto_scale_lr.base_batch_size", "auto_scale_lr.enable", "train_dataloader.num_workers"),
)


@dataclass
class Files:
    """Files and folders that a command may be given in the place of the right one."""

    folder: Path

    def write(self) -> None:
        self.folder.mkdir()
        for name, content in (
            ("empty", b""),
            ("empty.py", b""),
            ("binary.pth", bytes(range(256)) * 40),
            ("binary.py", bytes(range(256))),
            ("zip.pth", b"PK\x03\x04" + b"\0" * 200),
            ("text.txt", "Grüße\n".encode()),
            ("broken.json", b'{"a": [1, 2'),
            ("list.json", b"[1, 2, 3]"),
            ("number.json", b"3"),
            ("syntax.py", b"model = dict(\n"),
            ("raises.py", b"model = 1 / 0\n"),
            ("import.py", b"import no_such_module_at_all\n"),
            ("number.py", b"model = 3\n"),
            ("base.py", b"_base_ = 'missing.py'\n"),
        ):
            (self.folder / name).write_bytes(content)
        (self.folder / "folder").mkdir()
        (self.folder / "link").symlink_to("nowhere")

    @property
    def all(self) -> list[str]:
        return [*map(str, sorted(self.folder.iterdir())), f"{self.folder}/missing", "", "/dev/null"]


class Lines:
    """Draws command lines.

    Args:
        seed: of all draws.
        config: whose settings ``--cfg-options`` name.
        files: what is given instead of the right files.
        out: gives a new path to write to.
    """

    def __init__(self, seed: str, config: Path, files: Files, out: Callable[[], Path]) -> None:
        self.draw = random.Random(seed)
        self.files, self.out = files.all, out
        cfg = read_config(config)._cfg_dict.to_dict()
        names = [s.name for s in settings({k: cfg[k] for k in READ if k in cfg})]
        # By their first part, or the model's would be nearly all.
        self.keys: dict[str, list[str]] = {}
        for name in (*names, *OTHERS):
            self.keys.setdefault(name.partition(".")[0], []).append(name)

    def value(self) -> str:
        return self.draw.choice(NONSENSE)

    def file(self, right: object, odd: float = 0.35) -> str:
        return self.draw.choice(self.files) if self.draw.random() < odd else str(right)

    def cfg_options(self, number: int | None = None) -> list[str]:
        pairs = []
        for _ in range(number or self.draw.choice((1, 1, 1, 2, 3))):
            key = self.draw.choice(self.keys[self.draw.choice(sorted(self.keys))])
            if self.draw.random() < 0.15:
                place = self.draw.randrange(len(key))
                key = key[:place] + self.draw.choice("abx_.") + key[place + 1 :]
            pairs.append(f"{key}={self.value()}")
        if self.draw.random() < 0.05:
            pairs.append(self.draw.choice(("novalue", "=3", "a=dict(b=3)", "model={}", "..=1")))
        return ["--cfg-options", *pairs]

    def options(self, known: dict[str, object], most: int = 3) -> Iterator[str]:
        """Some of a command's options, most of them with nonsense.

        A value of ``known`` is None for a switch, a tuple of right values, or a number of values.
        """
        for name in self.draw.sample(sorted(known), self.draw.randint(0, min(most, len(known)))):
            right = known[name]
            if right is None:
                yield name
            elif isinstance(right, int):
                yield name
                yield from (self.value() for _ in range(right))
            elif self.draw.random() < 0.6:
                yield f"{name}={self.value()}"
            else:
                yield f"{name}={self.draw.choice(right)}"
