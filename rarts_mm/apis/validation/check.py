"""The one place that looks at a config before anything is built from it."""

from collections.abc import Collection
from logging import WARNING

from mmengine.config import Config
from mmengine.logging import print_log

from ..configs import plain_config, prepare_registries
from ..errors import UsageError
from .names import wrong_names
from .relations import missing_partners, resting, unknown_scope, wrong_together
from .trial import refused_settings
from .values import STRUCTURE, VALUES, not_a_number, wrong_values

_SHOWN = 10


def check_search(cfg: Config, *recipes: str, complete: bool = False) -> None:
    """Prepare the registries; raise unless a search's config makes sense, and those made of it.

    Args:
        cfg: the search's config.
        complete: as for :func:`check_config`.
        recipes: of the configs made of it that will be trained, ``'finetune'`` and ``'baseline'``.

    Raises:
        UsageError: as :func:`check_config`.
    """
    prepare_registries(cfg)
    check_config(cfg, complete=complete)
    for recipe in recipes:
        check_config(plain_config(cfg, recipe), recipe, complete=complete)


def check_config(
    cfg: Config, where: str = "", parts: Collection[str] | None = None, complete: bool = False
) -> None:
    """Raise unless a config's settings make sense; builds nothing of it but optimisers on trial.

    The registries must be prepared (:func:`~rarts_mm.apis.configs.prepare_registries`).

    Args:
        cfg: the config; not changed.
        where: whose config it is, for the message, such as ``'baseline'``.
        parts: its keys that will be read; None: all.
        complete: whether a Runner will be built from it, which wants some parts together.

    Raises:
        UsageError: each setting that is wrong with its full name, its value, the reason and the remedy.
    """
    plain = cfg._cfg_dict.to_dict()
    if parts is not None:
        plain = {key: value for key, value in plain.items() if key in parts}
    # Each look needs what the ones before it have found in order.
    looks = (
        lambda: wrong_values(plain, STRUCTURE),
        lambda: [*unknown_scope(plain)],
        lambda: [*wrong_names(plain), *not_a_number(plain), *wrong_values(plain, VALUES)],
        lambda: [
            *(missing_partners(plain) if complete else ()),
            *wrong_together(plain),
            *refused_settings(plain),
        ],
    )
    for look in looks:
        if problems := look():
            raise UsageError(_message(problems, where))
    for sentence in resting(plain):
        print_log(sentence, logger="current", level=WARNING)


def _message(problems: list[str], where: str) -> str:
    of = f" of the {where}" if where else ""
    if len(problems) == 1:
        return f"{where}: {problems[0]}" if where else problems[0]
    more = len(problems) - _SHOWN
    lines = [f"  {problem}" for problem in problems[:_SHOWN]]
    if more > 0:
        lines.append(f"  ... and {more} more")
    return "\n".join([f"{len(problems)} settings{of} make no sense:", *lines])
