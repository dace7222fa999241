"""docs/configs.md: its commands are commands of the tools, its files are there."""

import re
import shlex

import pytest
from mmengine.optim import build_optim_wrapper

from rarts_mm.apis.configs import prepare_registries, read_config
from rarts_mm.registry import MODELS
from tests.conftest import CONFIGS, ROOT, load_tool

PAGE = (ROOT / "docs" / "configs.md").read_text()
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("python ")
] + re.findall(r"`(python tools/[^`]*)`", PAGE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_tools_take_the_commands(command):
    _, tool, *words = shlex.split(command)
    name = tool.removeprefix("tools/").removesuffix(".py")
    module = load_tool(name)
    if hasattr(module, "parse_args"):
        module.parse_args(words)
    for word in words:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file(), word


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if " configs/" in c and "--cfg-options" in c]
)
def test_the_options_make_a_search(command):
    args = load_tool("train").parse_args(shlex.split(command)[2:])
    cfg = read_config(args.config, args.cfg_options)
    small = dict(depth=11) if "preresnet" in args.config else dict(widen_factor=0.1)
    cfg.model.architecture.backbone.update(small)
    prepare_registries(cfg)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper.alternation).__name__.lower() in command.replace("-", "").lower()
    assert model.primary is None


def test_every_config_of_the_chapter_has_its_row():
    named = set(re.findall(r"`(\w[\w-]*\.py)`", PAGE.partition("\n## ")[0]))
    there = {path.name for path in CONFIGS.glob("*.py")}
    assert named <= there
    data = ("cifar10.py", "cifar100.py", "imagenet20.py", "coco.py")
    # Topologies are the thesis' chapter 3.
    widths = {name for name in there if not re.search("darts|nats", name)}
    assert named == {name for name in widths if name.endswith(data)}
