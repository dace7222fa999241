"""The page of the results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from covered.families import FAMILIES

from rarts_mm.files import write_text

HEAD = """# Which networks can be cut whole

`python benchmarks/cut_coverage.py --page docs/coverage.md` wrote this page. One network of each family, weights random and uneven, float64; groups of channels are found by running it once ([how](any-module.md)), and 30 % or 60 % of each group's channels are cut at random.

*in groups*: share of the parameters that training changes (of the FLOPs) that lie in layers which get smaller. *left*: share of the parameters that is left at 30 % and at 60 %. *difference*: max |cut - masked| / max |masked|, the worse of both. *peer*: Torch-Pruning at 40 % of every layer, default use: whether the network runs afterwards; it proves nothing.

Each network is measured with the code of its day, beside other work: seconds are upper bounds, and newer code may cut more.
"""


def write_page(path: Path, rows: Mapping[str, Sequence[Mapping]], where: Mapping[str, str]) -> None:
    """Write tables of all that was measured."""
    parts = [HEAD]
    for suite, found in rows.items():
        missing = len(FAMILIES[suite]) - len(found)
        note = f" {missing} more of the list have not been measured yet." if missing > 0 else ""
        text = f"{_summary(found)}{note}\n\n{_table(found)}\n{_reasons(found)}"
        parts.append(f"\n## {suite}\n\n{text}")
    parts.append("\n" + ", ".join(f"{key} {value}" for key, value in where.items()) + "\n")
    write_text(path, "".join(parts))


def _summary(rows: Sequence[Mapping]) -> str:
    done = [row for row in rows if "failure" not in row]
    large = [row for row in done if row["held"] >= 0.9]
    cut = [row for row in done if row["groups"]]
    worst = max((max(row["errors"].values()) for row in cut), default=0.0)
    runs = [row for row in done if row["peer"] == "runs"]
    peers = [
        row
        for row in done
        if row["peer"] not in ("not installed", "not run", "detectors are not run")
    ]
    text = (
        f"{len(large)} of {len(rows)} have at least 90 % of their parameters in groups; "
        f"the largest difference is {worst:.0e}."
    )
    if peers:
        text += f" After the peer's pruning {len(runs)} of {len(peers)} run."
    return text


def _table(rows: Sequence[Mapping]) -> str:
    lines = [
        "| network | parameters | groups | in groups | FLOPs in groups | left | difference | seconds | GiB | peer |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        if "failure" in row:
            lines.append(f"| {row['network']} | | | | | | | | | not measured: {row['failure']} |")
            continue
        left = ", ".join(f"{share:.2f}" for share in row["left"].values())
        lines.append(
            f"| {row['network']} | {row['parameters'] / 1e6:.1f} M | {row['groups']} | {row['held']:.1%} | "
            f"{row['held_flops']:.1%} | {left} | {max(row['errors'].values()):.0e} | {row['seconds']} | "
            f"{row['memory']:.1f} | {row['peer']} |"
        )
    return "\n".join(lines)


def _reasons(rows: Sequence[Mapping]) -> str:
    lines = []
    for row in rows:
        if row.get("held", 1.0) < 0.9:
            why = "; ".join(f"{share:.0%} as {reason}" for reason, share in row["frozen"].items())
            lines.append(f"- {row['network']}: {why}")
    return "\n\nWhat stays in the others, and why:\n\n" + "\n".join(lines) + "\n" if lines else "\n"
