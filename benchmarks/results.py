# SPDX-License-Identifier: Apache-2.0
"""Measure bundles, and write docs/results.md from what was measured.

    python benchmarks/results.py measure output/ENV/RUN/best.tigr --run output/ENV/RUN --name tigr_seed0
    python benchmarks/results.py page

`measure` writes small CSV files to benchmarks/results/<task set>/<name>/ (`results_data.py` tells which); `page` needs
nothing else. Names say what a run is: `tigr`, `pearl`, `told` and `ablation_...` have their places on the page; those
that end in `_seed0`, `_seed1`, ... and are equal otherwise become one curve.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tigr_core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 after a mistake that a user can mend."""
    given = _parser().parse_args(arguments)
    try:
        print(given.command(given))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where CSV files are")
    commands = parser.add_subparsers(required=True)
    measure = commands.add_parser("measure", help="evaluate a bundle and keep the numbers")
    measure.add_argument("bundle", type=Path)
    measure.add_argument("--name", required=True, help="lower case, e.g. tigr_seed0, pearl_seed0, ablation_window")
    measure.add_argument("--run", type=Path, help="folder of the run, for its curve and what it cost")
    measure.add_argument("--machine", help="what it was trained on; this machine if left out")
    measure.set_defaults(command=_measure)
    page = commands.add_parser("page", help="write docs/results.md and its pictures from the numbers kept")
    page.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the page goes")
    page.set_defaults(command=_page)
    return parser


def _measure(given: argparse.Namespace) -> Path:
    import results_measure

    if not re.fullmatch(r"[a-z0-9_]+", given.name):
        raise UserError(
            f"--name {given.name!r}", expected="lower case letters, digits and _", fix="e.g. --name tigr_seed0"
        )
    return results_measure.measure(given.bundle, given.results, given.name, given.run, given.machine)


def _page(given: argparse.Namespace) -> Path:
    import results_page

    return results_page.write_page(given.results, given.docs)


if __name__ == "__main__":
    sys.exit(main())
