"""The command line of ``demo/vis.py``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

DEMO = Path(__file__).parents[1]
FORMATS = ("npz", "json", "csv", "bvh")


def _between(kind: Callable[[str], float], low: float, high: float, what: str) -> Callable[[str], float]:
    """A type for argparse: a number from ``low`` to ``high``."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:  # NaN is not either
            span = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"expected {what}, {span}, found {text}")
        return value

    parse.__name__ = what
    return parse


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="demo/vis.py",
        description="Lift people in pictures and videos to 3D. docs/demo.md has an example of every option.",
        allow_abbrev=False,
    )
    whole = _between(int, 1, math.inf, "a whole number")

    group = parser.add_argument_group("input")
    add = group.add_argument
    add("inputs", nargs="*", help="pictures, videos, folders, globs (default: demo/figure/)")
    add("--webcam", type=int, metavar="N", help="record webcam N, from 0 on, until Ctrl-C or --max_frames")
    add("--max_frames", type=whole, metavar="N", help="look at the first N frames of a video or webcam alone")
    add("--keypoints", metavar="FILE", help="2D key points made elsewhere: see docs/formats.md")
    add("--image_size", type=whole, nargs=2, metavar=("W", "H"), help="image size, where --keypoints lack it")
    rate = _between(float, 0.01, 10_000, "frames per second")
    add("--fps", type=rate, metavar="R", help="frames per second, where --keypoints lack them")

    group = parser.add_argument_group("2D pose")
    add = group.add_argument
    add("--detector", choices=("auto", "blazepose", "hrnet"), default="auto", help="2D pose (default: auto)")
    add("--num_person", type=whole, metavar="N", help="keep at most N people (default: all)")
    add("--person", type=whole, metavar="ID", help="keep this person alone")

    group = parser.add_argument_group("lifting")
    add = group.add_argument
    add("--previous_dir", metavar="NAME", help="lifter: a name under ckpt/, a folder or a file")
    add(
        "--backend",
        choices=("auto", "torch", "onnx"),
        default="auto",
        help="what runs the lifter: PyTorch, or ONNX Runtime (CPU) with a file of main.py --export onnx "
        "(default: what the file's name says)",
    )
    add(
        "--window",
        choices=("person", "image"),
        default="person",
        help="what the lifter sees: each person in a window of their own, or where they are in the image, "
        "as the published demonstration does (default: person)",
    )
    add("--smooth", action="store_true", help="smooth the poses of videos; the raw ones are kept beside them")
    focal, stature = _between(float, 1, 1e6, "pixels"), _between(float, 0.3, 3, "metres")
    add("--focal", type=focal, metavar="PX", help="focal length: estimate where people stand")
    add("--height_m", type=stature, metavar="M", help="people's stature: poses get it; estimate their places")

    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--output", default=str(DEMO / "output"), metavar="DIR", help="folder for what is written")
    add("--no-render", action="store_true", help="no picture or video, only what --save and --html name")
    add("--save", nargs="+", default=[], metavar="FORMAT", help=f"data to write: {', '.join(FORMATS)}")
    add("--html", action="store_true", help="write a page to play and turn the poses, offline")

    group = parser.add_argument_group("device")
    add = group.add_argument
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    add("--gpu", type=int, default=0, metavar="N", help="which CUDA device, from 0 on")
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line; one that makes no sense ends the program with exit code 2."""
    parser = build_parser()
    args = parser.parse_args(argv)
    # Whoever types `--save npz photo.jpg` means the photo as an input.
    inputs = [word for word in args.save if word not in FORMATS]
    for word in inputs:
        if not Path(word).suffix and not Path(word).exists():
            parser.error(f"--save {word}: no such format; expected some of {', '.join(FORMATS)}")
    args.inputs += inputs
    args.save = [word for word in dict.fromkeys(args.save) if word in FORMATS]
    if args.no_render and not args.save and not args.html:
        parser.error("--no-render leaves nothing to write: add --save or --html")
    if sum([bool(args.inputs), args.webcam is not None, args.keypoints is not None]) > 1:
        parser.error("give inputs, --webcam or --keypoints, one of them")
    if args.keypoints is not None:
        useless = {"--max_frames": args.max_frames, "--detector": args.detector != "auto"}
        for option, given in useless.items():
            if given:
                parser.error(f"{option} does not go with --keypoints")
    elif args.image_size or args.fps:
        parser.error("--image_size and --fps go with --keypoints alone")
    return args
