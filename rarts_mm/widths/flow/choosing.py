"""Which of the groups in a network are asked for."""

from torch import nn

from ..naming import Names, Selection
from .groups import Groups


def leave_out(network: nn.Module, found: Groups, include: Names, exclude: Names) -> None:
    """Freeze the groups that no layer of ``include`` writes, or that change one of ``exclude``."""
    written = {name: {name, *group.writers(network)} for name, group in found.groups.items()}
    changed = {
        name: {name, *(parameter.rpartition(".")[0] for parameter in group.parameters)}
        for name, group in found.groups.items()
    }
    chosen = Selection(network, include)
    chosen.check([each for names in written.values() for each in names])
    left_out = [n for n, names in written.items() if not any(each in chosen for each in names)]
    if exclude:
        spared = Selection(network, exclude)
        spared.check([each for names in changed.values() for each in names])
        left_out += [n for n, names in changed.items() if any(each in spared for each in names)]
    found.freeze(list(dict.fromkeys(left_out)), "it was not asked for (include, exclude)")
