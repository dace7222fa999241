"""Run a search on the model that can be solved by hand; print where it ends, as JSON."""

import argparse
import json
from collections.abc import Sequence

from rarts_mm.apis.solvable_model import check_picture, draw_model, solve_model
from rarts_mm.files import write_text


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--alternation",
        default="rarts",
        metavar="NAME",
        help="rarts (default), rarts-jacobi, darts1, darts2, milenas, joint or weights-only",
    )
    parser.add_argument("--lam", type=float, help="lambda; default: 10")
    parser.add_argument("--beta", type=float, help="default: 10")
    parser.add_argument("--coupling", help="gradient (default) or decoupled")
    parser.add_argument(
        "--steps", type=int, default=20000, help="stops earlier where it has converged or diverged"
    )
    parser.add_argument("--eta", type=float, default=0.01, help="learning rate; default: 0.01")
    parser.add_argument("--momentum", type=float, default=0.0, help="default: 0")
    parser.add_argument("--xi", type=float, help="DARTS2's virtual step; default: eta")
    parser.add_argument("--derivative", help="of DARTS2: finite-difference (default) or exact")
    parser.add_argument(
        "--first", help="of DARTS1, DARTS2: which moves first, w (default) or alpha"
    )
    parser.add_argument(
        "--start",
        type=float,
        nargs="+",
        metavar="VALUE",
        help="ALPHA W U, or ALPHA W where there is one network; default: 2 -2 0",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the papers' figure of all searches")
    parser.add_argument("--json", metavar="FILE", help="write the result there, too")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = vars(parse_args(argv))
    picture, file = args.pop("plot"), args.pop("json")
    if picture:
        check_picture(picture)
    text = json.dumps(solve_model(**args), indent=2)
    if file:
        write_text(file, text + "\n")
    print(text, flush=True)
    if picture:
        draw_model(picture, **{name: args[name] for name in ("lam", "beta", "eta", "start")})
