"""What an alternation or a penalty remembers from step to step is resumed with the search."""

import pytest
import torch

from rarts_mm.search import ALPHA, AUXILIARY, PRIMARY, Joint, SmoothPenalty
from tests import tiny
from tests.engine.resuming import CutOff, assert_same_search, load, run


class Slowing(Joint):
    """Alpha's gradients get smaller from step to step, and w follows a running mean of its own size."""

    def __init__(self):
        self.steps, self.mean = 0, torch.zeros(())

    def __call__(self, s):
        self.steps += 1
        with torch.no_grad():
            norm = torch.stack(torch._foreach_norm(s.players[AUXILIARY].params)).norm()
        self.mean = 0.7 * self.mean + 0.3 * norm
        factor = float(self.mean / norm)
        s.gradients(AUXILIARY, AUXILIARY, of=(AUXILIARY,), factor=factor)
        s.gradients(AUXILIARY, PRIMARY, of=(ALPHA,), factor=1 / self.steps)
        s.descend_at_once((AUXILIARY, None), (ALPHA, None))

    def state_dict(self):
        return dict(steps=self.steps, mean=self.mean)

    def load_state_dict(self, state):
        self.steps, self.mean = state["steps"], state["mean"].clone()


class Trailing(SmoothPenalty):
    """Half the squared distance from where alpha was, on average."""

    def bind(self, alphas):
        self.means = [alpha.detach().clone() for alpha in alphas.values()]

    def value(self, alphas):
        pairs = zip(alphas, self.means, strict=True)
        return 0.5 * self.gamma * sum((a - m).square().sum() for a, m in pairs)

    def add_gradient_(self, alphas, factor=1.0):
        super().add_gradient_(alphas, factor)
        torch._foreach_lerp_(self.means, [a.detach() for a in alphas], 0.1)

    def state_dict(self):
        return dict(means=self.means)

    def load_state_dict(self, state):
        self.means = [mean.clone() for mean in state["means"]]


SETTINGS = dict(
    alternation="Joint",
    wrapper=dict(alternation=dict(type=Slowing), penalty=dict(type=Trailing, gamma=0.5)),
    epochs=2,
)
NAMES = {"alternation, Slowing", "penalty 0, Trailing"}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Folder of a search, and of one that was cut off in its second epoch."""
    folder = tmp_path_factory.mktemp("states")
    run(folder / "whole", **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        run(folder / "parts", custom_hooks=[CutOff(5)], **SETTINGS)
    return folder


def test_a_resumed_search_is_the_uninterrupted_one(begun):
    saved = load(begun / "parts" / "epoch_1.pth")["optimizer"]["states"]
    assert set(saved) == NAMES
    assert saved["alternation, Slowing"]["steps"] == 3
    # Nothing that torch's safe loading would refuse.
    torch.save(saved, begun / "states.pth")
    torch.load(begun / "states.pth", weights_only=True)
    runner = run(begun / "parts", resume=True, **SETTINGS)
    assert runner.optim_wrapper.alternation.steps == 6
    assert_same_search(begun / "parts" / "epoch_2.pth", begun / "whole" / "epoch_2.pth")


def resume(begun, folder, change=lambda states: None, wrapper=None):
    """Resume from the first epoch's checkpoint with other states in it."""
    content = load(begun / "whole" / "epoch_1.pth")
    change(content["optimizer"])
    folder.mkdir()
    torch.save(content, folder / "old.pth")
    settings = SETTINGS | dict(wrapper=SETTINGS["wrapper"] | (wrapper or {}))
    loop = dict(strict_resume=False)
    run(folder, load_from=str(folder / "old.pth"), resume=True, loop=loop, **settings)
    return tiny.log_text(folder)


def test_an_old_checkpoint_is_resumed_with_a_warning(begun, tmp_path):
    text = resume(begun, tmp_path / "old", lambda optimizer: optimizer.pop("states"))
    for name in NAMES:
        assert f"has no state of the {name}: it begins anew" in text
    assert load(tmp_path / "old" / "epoch_2.pth")["optimizer"]["states"].keys() == NAMES


def test_a_state_that_nobody_takes_over_is_warned_of(begun, tmp_path):
    wrapper = dict(alternation=dict(type="Joint"), penalty=None)
    text = resume(begun, tmp_path / "other", wrapper=wrapper)
    assert "states that nothing in this search takes over: alternation, Slowing; penalty 0" in text
    assert "states" not in load(tmp_path / "other" / "epoch_2.pth")["optimizer"]


class Forgetful(Slowing):
    load_state_dict = Joint.load_state_dict


def test_a_state_without_a_way_to_take_it_over_is_an_error():
    rule = Forgetful()
    with pytest.raises(ValueError, match=r"Forgetful has a state .*steps, mean.*load_state_dict"):
        rule.load_state_dict(rule.state_dict())
