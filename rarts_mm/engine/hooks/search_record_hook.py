"""What a search was begun with is in every checkpoint, and a resumed one goes on with the same."""

from mmengine.model import is_model_wrapper

from rarts_mm.datasets import check_same_split
from rarts_mm.registry import HOOKS

from ..optim_wrapper import NO_PLAYERS
from .search_hook import SearchHook

SEARCH_RECORD = "rarts_mm"
_REGARDLESS = "train_cfg.strict_resume=False"


@HOOKS.register_module()
class SearchRecordHook(SearchHook):
    """Writes the record of a search into its checkpoints and compares it on resuming.

    A resumed search that trained w on images which u has seen would no longer be a search on two
    halves, and nothing else would show it.

    Args:
        record: ``split`` (of :func:`rarts_mm.datasets.split_halves`), ``seed``, ``world_size``,
            ``batch_size`` of each half on a process, ``accumulative_counts``, and ``length``, the
            number of steps in an epoch. The types of the alternation and of the space, the weights of
            the Lagrangian and the like (:func:`_settings`), and the epoch that was validated last, are
            added.
        strict: whether a difference is an error; otherwise a warning. One of the weights of the
            Lagrangian and the like is always a warning: people change beta on purpose.

    Attributes:
        resumed: the record of the checkpoint that the run was resumed from, if any.
    """

    # Before CheckpointHook, which saves anew after a validation that found a best model, and before
    # CheckpointFitHook, which knows less of why a checkpoint is another search's.
    priority = "ABOVE_NORMAL"

    def __init__(self, record: dict, strict: bool = True) -> None:
        self.record = record
        self.strict = strict
        self.validated = 0
        self.resumed: dict | None = None

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        del metrics
        self.validated = runner.epoch

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint.setdefault(SEARCH_RECORD, {}).update(
            self._current(runner),
            **_settings(runner.optim_wrapper),
            length=self.record["length"],
            validated=self.validated,
        )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        saved = checkpoint.get(SEARCH_RECORD, {})
        if not runner._resume:
            self._refuse_other_scores(saved, runner)
            return
        _check_players(checkpoint, runner.optim_wrapper)
        self.resumed = saved
        self.validated = self.resumed.get("validated", self.validated)
        current = self._current(runner)
        found = _differences(self.resumed, current)
        other_halves = _other_halves(self.resumed, current)
        if found or other_halves:
            message = "this search goes on from another one's checkpoint: " + "; ".join(
                [*found, *other_halves]
            )
            if self.strict:
                # What is said of the halves ends with a remedy.
                remedy = "," if other_halves else ". Resume with what it was begun with,"
                raise ValueError(
                    f"{message}{remedy} or go on regardless with --cfg-options {_REGARDLESS}"
                )
            runner.logger.warning("%s (%s).", message, _REGARDLESS)
        if changed := _differences(self.resumed, _settings(runner.optim_wrapper)):
            runner.logger.warning(
                "This search goes on with other settings than the checkpoint's: %s. It will not be the "
                "one that was begun.",
                "; ".join(f"optim_wrapper.{each}" for each in changed),
            )

    def _current(self, runner) -> dict:
        current = {k: v for k, v in self.record.items() if k != "length"}
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        parts = dict(
            alternation=getattr(runner.optim_wrapper, "alternation", None),
            space=getattr(model, "space", None),
        )
        return current | {k: type(part).__name__ for k, part in parts.items() if part is not None}

    def _refuse_other_scores(self, saved: dict, runner) -> None:
        """Names and sizes of scores may fit those of another space, where they mean another thing."""
        found, wanted = saved.get("space"), self._current(runner).get("space")
        if found is not None and found != wanted:
            raise ValueError(
                f"load_from: the checkpoint is of a search in a {found}, this one is in a {wanted}: its "
                f"scores would be taken for others. Set model.space.type={found!r}, or start from a "
                "plain checkpoint"
            )


def _check_players(checkpoint: dict, wrapper) -> None:
    """Refuse, strict or not, optimisers' states of other networks than this search moves."""
    moved = set(checkpoint.get("optimizer") or ()) - NO_PLAYERS
    moves = set(wrapper.keys()) if hasattr(wrapper, "lagrangian") else moved
    if moved and moved != moves:
        raise ValueError(
            f"the checkpoint is of a search that moves {', '.join(sorted(moved))}, this one moves "
            f"{', '.join(sorted(moves))}: its optimisers' states do not fit. Resume with the alternation "
            "it was begun with, or start a search from its weights, --cfg-options "
            "load_from=CHECKPOINT, in another --work-dir"
        )


def _settings(wrapper) -> dict:
    """What of a search's optim wrapper may be changed on resuming, by the names of the config."""
    if not hasattr(wrapper, "lagrangian"):
        return {}
    lagrangian, uses = wrapper.lagrangian, wrapper.alternation.uses
    # A weight that the alternation does not read changes nothing.
    read = [name for name in ("lam", "beta") if name in uses]
    read += ["coupling"] if "beta" in uses else []
    return {name: getattr(lagrangian, name) for name in read} | dict(
        penalty=[f"{type(p).__name__}(gamma={p.gamma!r})" for p in lagrangian.penalties],
        alpha_interval=wrapper.alpha_interval,
        alpha_warmup=wrapper.alpha_warmup,
        amp=wrapper.amp_dtype and str(wrapper.amp_dtype).removeprefix("torch."),
    )


def _differences(saved: dict, current: dict) -> list[str]:
    """What differs of that which both records know, the halves apart."""
    return [
        f"{key} was {saved[key]}, is {value}"
        for key, value in current.items()
        if key != "split" and key in saved and saved[key] != value
    ]


def _other_halves(saved: dict, current: dict) -> list[str]:
    """A sentence on what makes the halves others, and how to get the same; empty if they are."""
    if "split" in saved:
        try:
            check_same_split(saved["split"], current["split"])
        except ValueError as error:
            return [str(error).rstrip(".")]
    return []
