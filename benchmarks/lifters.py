"""Trains HTNet, other lifters and HTNet's ablations on equal terms, and puts them side by side.

    python -m benchmarks.lifters --row mgcn --seed 2 -k gt --root_path DIR --out FOLDER/mgcn-gt-2.json
    python -m benchmarks.lifters --all --root_path DIR --out FOLDER
    python -m benchmarks.lifters --recipes --pictures FILES --root_path DIR --out FOLDER
    python -m benchmarks.lifters --table FOLDER

Each row is trained by this project's loop with the published recipe, or HTNet with another one, on the same
number of samples: each of fifteen epochs is a fifteenth of them. The weights after the last step are scored,
so that the test subjects choose nothing. ``--all`` trains every lifter whose record FOLDER lacks, and
``--recipes`` every recipe. All can be stopped at any time: the same command goes on. ``--table`` prints
FOLDER's records as Markdown and draws FOLDER/lifters.png.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from common.errors import RunError, UserError

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line, which ``--help`` shows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lifters",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--row", metavar="NAME", help="train one row: htnet, mgcn, ...; a wrong name lists them"
    )
    what.add_argument("--all", action="store_true", help="train every row that is missing, one after another")
    what.add_argument("--recipes", action="store_true", help="the same for the recipes")
    what.add_argument("--table", type=Path, metavar="FOLDER", help="put the records of a folder side by side")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="--row: the record to write; --all and --recipes: the folder of the records",
    )
    parser.add_argument(
        "--root_path",
        type=Path,
        metavar="DIR",
        default=Path("dataset"),
        help="folder of the npz files (dataset)",
    )
    parser.add_argument(
        "--cache_dir", type=Path, metavar="DIR", help="folder for the converted data (beside the npz files)"
    )
    parser.add_argument(
        "-k",
        "--keypoints",
        metavar="SOURCE",
        help="--row: source of the key points (gt); --all and --recipes: this source alone",
    )
    parser.add_argument(
        "--pictures",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="measure what was trained on photos too, as benchmarks.demo does",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="--row: the seed (1)")
    parser.add_argument(
        "--samples",
        type=int,
        default=512_000,
        metavar="N",
        help="samples of each row, rounded up to 15 epochs of whole batches (512,000)",
    )
    parser.add_argument("--batch_size", type=int, default=512, metavar="N", help="samples of a step (512)")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where (auto)"
    )
    parser.add_argument(
        "--amp", default="off", choices=("off", "bf16"), help="train in bfloat16; scores are in float32 (off)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="CPU threads (0: as PyTorch finds right)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command line; exit codes as those of ``main.py``."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.table and not args.out:
        parser.error("--row, --all and --recipes need --out")
    if min(args.samples, args.batch_size) < 1 or min(args.seed, args.workers) < 0:
        parser.error("--samples and --batch_size must be at least 1, --seed and --workers at least 0")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    try:
        if args.table:
            from benchmarks.lifter_table import read_records, table, write_plot

            records = read_records(args.table)
            print(table(records))
            write_plot(args.table / "lifters.png", records)
            return 0
        return _train(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("stopped; the same command goes on", file=sys.stderr)
        return getattr(stop, "exit_code", 130)


def _train(args: argparse.Namespace) -> int:
    import torch

    from benchmarks.lifter_runs import train_row
    from common.device import choose

    if args.workers:
        torch.set_num_threads(args.workers)
    device = choose(args.device)
    failed = 0
    for row, keypoints, seed, out in _wanted(args):
        try:
            train_row(
                row,
                seed=seed,
                samples=args.samples,
                batch_size=args.batch_size,
                keypoints=keypoints,
                root=args.root_path,
                out=out,
                device=device,
                amp=args.amp,
                cache_dir=args.cache_dir,
                pictures=args.pictures,
            )
        except RunError as error:
            if args.row:
                raise
            # One row that diverges must not cost the night's others.
            print(f"error: {out.name}: {error}", file=sys.stderr)
            failed = error.exit_code
    return failed


def _wanted(args: argparse.Namespace) -> Iterator[tuple[str, str, int, Path]]:
    """Row, key points, seed and record of what is to be trained.

    Of all rows, those of the first seed come first: broken off early, the table still has every row.
    """
    from benchmarks.lifter_rows import ROWS, SOURCES

    if args.row:
        yield args.row, args.keypoints or "gt", args.seed, args.out
        return
    rows = {name: row for name, row in ROWS.items() if row.recipe == args.recipes}
    sources = [source for source in SOURCES if any(source in row.sources for row in rows.values())]
    if args.keypoints and args.keypoints not in sources:
        option = "--recipes" if args.recipes else "--all"
        raise UserError(f"-k {args.keypoints}: {option} takes {' or '.join(sources)}")
    for seed in range(1, max(row.seeds for row in rows.values()) + 1):
        for keypoints in (args.keypoints,) if args.keypoints else sources:
            for name, row in rows.items():
                out = args.out / f"{name}-{keypoints}-{seed}.json"
                if seed <= row.seeds and keypoints in row.sources and not out.exists():
                    yield name, keypoints, seed, out


if __name__ == "__main__":
    sys.exit(main())
