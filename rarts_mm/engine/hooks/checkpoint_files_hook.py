"""A run that is killed while it saves loses nothing that was saved before."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook

from rarts_mm.registry import HOOKS

from .. import atomic_backend
from .saving import checkpoint_hooks


@HOOKS.register_module()
class CheckpointFilesHook(Hook):
    """Lets :class:`mmengine.hooks.CheckpointHook` write whole files, and keep at least two of them.

    A ``backend_args`` of the config stays, and so does a folder that is not on a local disk. Files
    that leave out what a run is resumed with are warned of.
    """

    # After CheckpointHook has found its folder.
    priority = "LOWEST"

    def before_run(self, runner) -> None:
        for hook in checkpoint_hooks(runner):
            if 0 < hook.max_keep_ckpts < 2:
                runner.logger.info(
                    "Two checkpoints are kept instead of %d: if the last one is broken, the run can "
                    "be resumed from the one before it.",
                    hook.max_keep_ckpts,
                )
                hook.max_keep_ckpts = 2
            remote = "://" in str(hook.out_dir or runner.work_dir)
            if hook.backend_args is None and hook.file_client_args is None and not remote:
                hook.backend_args = dict(backend=atomic_backend.NAME)

    def before_train(self, runner) -> None:
        for hook in checkpoint_hooks(runner):
            _forget_other_folders(runner, hook)
        if not is_main_process():
            return
        for hook in checkpoint_hooks(runner):
            _warn_of_what_is_left_out(runner, hook)
            if (hook.backend_args or {}).get("backend") != atomic_backend.NAME:
                continue
            for path in atomic_backend.remove_unfinished(hook.out_dir):
                runner.logger.info("Removed %s, which a killed run had not finished.", path)


def _forget_other_folders(runner, hook: CheckpointHook) -> None:
    """Let the best checkpoint be the one in this folder, where the run was resumed in a copy of it.

    The path that the checkpoint remembers may still exist, and CheckpointHook deletes the file when a
    better one comes.
    """
    if hook.save_best is None or "://" in str(hook.out_dir):
        return
    several = hook.key_indicators if len(hook.key_indicators) > 1 else [None]
    for name in several:
        path = hook.best_ckpt_path if name is None else hook.best_ckpt_path_dict[name]
        if path is None or Path(path).parent.absolute() == Path(hook.out_dir).absolute():
            continue
        here = Path(hook.out_dir) / Path(path).name
        path = str(here) if here.exists() else None
        key = "best_ckpt" if name is None else f"best_ckpt_{name}"
        if name is None:
            hook.best_ckpt_path = path
        else:
            hook.best_ckpt_path_dict[name] = path
        if path is None:
            runner.message_hub.pop_info(key)
        else:
            runner.message_hub.update_info(key, path)


def _warn_of_what_is_left_out(runner, hook: CheckpointHook) -> None:
    schedulers = runner.param_schedulers
    if isinstance(schedulers, dict):
        schedulers = [each for several in schedulers.values() for each in several]
    needed = {
        "save_optimizer": "the optimisers' states (moments, learning rates, loss scale)",
        # Without schedulers there is nothing to save.
        **({"save_param_scheduler": "the schedules"} if schedulers else {}),
    }
    for name, what in needed.items():
        if not getattr(hook, name):
            # As one text: MMEngine's logger drops a second warning of the same format.
            runner.logger.warning(
                f"default_hooks.checkpoint.{name}=False: checkpoints hold everything but {what}, which "
                "a resumed run starts anew, so that it will not be the uninterrupted one. Leave "
                f"{name} out if the run may have to be resumed."
            )
