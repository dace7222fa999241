"""What hooks that only a search can use have in common."""

from mmengine.hooks import Hook


class SearchHook(Hook):
    """A hook that needs a search: its alpha, its two halves, its alternation.

    Where a plain config is made of a search's (a baseline, a fine-tuning), hooks of this kind are left
    out of it: the class says so, no list has to.
    """
