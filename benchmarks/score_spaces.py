"""A step of RARTS with scores on the whole network beside one with scores inside its layers.

The same network, weights and batches; the two take steps in turns.

    python benchmarks/score_spaces.py [--model swin-classifier] [--threads 1] [--repeats 11]
"""

import argparse
import copy

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.table import Table

from rarts_mm.search import RARTS
from steps.settings import SETTINGS, build_search, search_config
from steps.timing import quartiles, time_in_turns

SPACES = ("WidthSpace", "ChannelSpace")
MODELS = ("swin-classifier", "detector", "one-stage-detector")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=11)
    args = parser.parse_args()
    MMLogger.get_instance("search_step", log_level="ERROR")
    torch.set_num_threads(args.threads)
    setting = SETTINGS[args.model]
    plain = search_config(setting, setting.size)
    batches = setting.batches(plain, setting.batch, setting.size)
    searches = {}
    for space in SPACES:
        cfg = copy.deepcopy(plain)
        cfg.model.space = dict(type=space)
        searches[space] = build_search(cfg, RARTS.__name__, batches, "cpu")
    seconds = time_in_turns(searches, args.repeats, 2, "cpu")["wall"]
    table = Table("space", "units", "scores", "milliseconds", "by WidthSpace")
    for space, times in seconds.items():
        alphas = searches[space].model.alpha_parameters().values()
        pairs = zip(times, seconds[SPACES[0]], strict=True)
        ratio = quartiles([a / b for a, b in pairs])
        table.add_row(
            space,
            str(len(alphas)),
            f"{sum(alpha.numel() for alpha in alphas):,}",
            f"{1e3 * quartiles(times)['median']:.0f}",
            f"{ratio['median']:.2f} ({ratio['lower']:.2f} to {ratio['upper']:.2f})",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
