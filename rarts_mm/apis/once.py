"""What MMEngine does again and again in one process, done once.

A run writes its config down four times, and each time lets yapf lay the same text out, which takes a second
for a detector; every config that inherits from a library has all of that library's YAML index read.
"""

from functools import lru_cache, wraps

from mmengine.config import utils
from yapf.yapflib import yapf_api


def work_once() -> None:
    """Let the results be remembered, in this process; they are the same."""
    yapf_api.FormatCode = _remembering_layout(yapf_api.FormatCode)
    if not hasattr(utils.load, "cache_info"):
        # Files of installed packages, which nobody changes meanwhile.
        utils.load = lru_cache(maxsize=None)(utils.load)


def _remembering_layout(format_code):
    if hasattr(format_code, "__wrapped__"):
        return format_code

    @lru_cache(maxsize=8)
    def laid_out(text: str, style: tuple) -> tuple:
        return format_code(text, style_config=dict(style))

    @wraps(format_code)
    def remembering(text, filename="<unknown>", style_config=None, **more):
        if more or not isinstance(style_config, dict):
            return format_code(text, filename, style_config, **more)
        return laid_out(text, tuple(style_config.items()))

    return remembering
