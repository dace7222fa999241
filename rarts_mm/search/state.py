"""What a part of a search remembers from step to step, beside parameters and optimisers."""

from collections.abc import Mapping
from typing import Any


class Stateful:
    """Has a state that is saved with the optimisers and restored on resuming; none by default."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed search needs to go on as the uninterrupted one.

        Numbers, strings, tensors, and lists, tuples and dicts of these: checkpoints hold nothing
        else. In several processes the first one's is saved, and given to all.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` has returned. Its tensors may be on another device.

        Raises:
            ValueError: there is something to take over, and the class does not say how.
        """
        if state:
            raise ValueError(
                f"{type(self).__name__} has a state in the checkpoint ({', '.join(map(str, state))}), "
                "but no load_state_dict that takes it over; define it beside state_dict"
            )
