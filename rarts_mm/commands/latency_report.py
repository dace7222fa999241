"""Predicted and measured latency of a derived network, from a genotype and a latency table."""

import argparse
import json
from collections.abc import Sequence

from rarts_mm.apis.latency_report import latency_report
from rarts_mm.apis.latency_table import DEVICES
from rarts_mm.files import write_text
from rarts_mm.invocation import spelled


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "genotype", help="a file with the genotype's text or JSON, the text, or a published name"
    )
    parser.add_argument("table", help=f"JSON file of {spelled('latency-table')}")
    parser.add_argument("--device", choices=DEVICES, help="where to measure; default: the table's")
    parser.add_argument("--repeats", type=int, default=30, help="timed rounds (default: 30)")
    parser.add_argument("--json", metavar="FILE", help="write the report there, too")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    report = latency_report(args.genotype, args.table, args.device, args.repeats)
    print(report)
    if args.json:
        write_text(args.json, json.dumps(report.to_dict(), indent=1) + "\n")
