"""When MMEngine's checkpoint hooks write a file, and which."""

from mmengine.hooks import CheckpointHook


def checkpoint_hooks(runner) -> list[CheckpointHook]:
    """The hooks that write checkpoints."""
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]


def saves_now(hook: CheckpointHook, runner) -> bool:
    """Whether a hook that saves by iterations will do so after this one (as MMEngine decides it)."""
    return not hook.by_epoch and (
        hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
        or (hook.save_last and hook.is_last_train_iter(runner))
    )


def save_again(runner) -> None:
    """Write the files of an epoch's last iteration anew, since the weights or buffers have changed.

    Hooks that save by iterations do so before the epoch's end is told to anybody.
    """
    for hook in checkpoint_hooks(runner):
        if hook.by_epoch:
            continue
        name = hook.filename_tmpl.format(runner.iter)
        if hook.file_backend.isfile(hook.file_backend.join_path(hook.out_dir, name)):
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            hook._save_checkpoint_with_step(runner, runner.iter, meta)
