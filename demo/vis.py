"""People in images, videos, webcam recordings and keypoint files, in 3D: ``python demo/vis.py --help``."""

from __future__ import annotations

import argparse
import glob
import logging
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common.console import RunError, UserError, configure_output, progress, run_command
except ModuleNotFoundError as missing:  # Python looks beside this file, and not in the folder above
    sys.exit(f"error: {missing}: run `pip install -r requirement.txt` in the project's folder first")

if TYPE_CHECKING:
    import numpy as np

    from demo.lib.result import Result

    Frames = Callable[[], Iterable[np.ndarray]]  # gives all frames, (H, W, 3) uint8 RGB, at each call

DEMO = Path(__file__).parent
KINDS = ("npz", "json", "csv", "bvh", "gltf", "trc", "c3d", "angles")  # those of demo.lib.export
DETECTORS = ("auto", "blazepose", "nanodet", "hrnet", "rtmpose")  # those of demo.lib.detectors
MAX_SIDE = 4096  # pixels, the input's half of a rendered image
UNKNOWN_FPS = 30.0  # of a rendered video whose rate is unknown
OPTIONS = ("window", "motion", "focal", "height_m", "mode", "small", "models")  # passed on to Estimator
log = logging.getLogger("demo")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    text = "Lift people to 3D. docs/demo.md has an example of every option."
    parser = argparse.ArgumentParser(prog="demo/vis.py", description=text, allow_abbrev=False)
    number, seconds = _number(int, 1, math.inf), _number(float, 0, math.inf)
    add = parser.add_argument_group("input").add_argument
    add("inputs", nargs="*", help="images, videos, folders, globs (default: demo/figure/)")
    add("--webcam", type=int, metavar="N", help="record webcam N, from 0 on, until Ctrl-C or --max_frames")
    add("--max_frames", type=number, metavar="N", help="only the first N frames of a video or webcam")
    add("--start", type=seconds, default=0.0, metavar="S", help="skip the first S seconds of a video")
    add("--end", type=seconds, metavar="S", help="stop at second S of a video")
    add("--keypoints", metavar="FILE", help="2D keypoints made elsewhere, see docs/formats.md")
    add("--format", metavar="NAME", help="format or joint order of --keypoints (default: recognised)")
    add("--image_size", type=number, nargs=2, metavar=("W", "H"), help="image size of --keypoints")
    add("--fps", type=_number(float, 0.01, 1e4), metavar="R", help="rate of --keypoints or numbered images")
    add("--skip_done", action="store_true", help="skip inputs whose outputs are newer than they are")

    add = parser.add_argument_group("2D pose").add_argument
    add("--detector", choices=DETECTORS, default="auto", help="default: auto")
    add("--mode", choices=("fast", "balanced", "accurate"), default="balanced", help="default: balanced")
    add("--small", action="store_true", help="also search parts of the image, for small people")
    add("--models", metavar="DIR", help="folder of the detector's models (default: demo/lib/checkpoint/)")
    add("--num_person", type=number, metavar="N", help="keep at most N people (default: all)")
    add("--person", type=_number(int, 0, math.inf), metavar="ID", help="keep only this person")

    add = parser.add_argument_group("lifting").add_argument
    add("--previous_dir", metavar="NAME", help="lifter: a name under ckpt/, a folder or a file")
    add("--backend", choices=("auto", "torch", "onnx"), default="auto", help="what runs the lifter")
    add("--window", choices=("person", "image"), default="person", help="what normalises the keypoints")
    add("--motion", choices=("on", "off"), default="on", help="fit one skeleton to each person of a video")
    add(
        "--focal",
        type=_focal,
        metavar="LENGTH",
        help="focal length: pixels, 26mm (35 mm equivalent) or 70deg (width)",
    )
    add("--height_m", type=_number(float, 0.3, 3), metavar="M", help="stature: scale, estimate positions")

    add = parser.add_argument_group("output").add_argument
    add("--output", default=str(DEMO / "output"), metavar="DIR", help="folder of the outputs")
    add("--no-render", action="store_true", help="no image or video, only --save and --html")
    add("--save", nargs="+", default=[], metavar="KIND", help=f"data: {', '.join(KINDS)}")
    add("--html", action="store_true", help="a page to play and rotate the poses, offline")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    add("--gpu", type=_number(int, 0, math.inf), default=0, metavar="N", help="index of the CUDA device")
    return parser


def _number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:  # NaN is not either
            raise argparse.ArgumentTypeError(f"expected {low:g} to {high:g}, found {text}")
        return value

    return number


def _focal(text: str) -> str:
    from demo.lib.lifting import focal_length  # which imports PyTorch

    try:
        focal_length((1920, 1080), text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line; options that contradict each other end the program with exit code 2."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for word in args.save:
        if word not in KINDS:  # `--save npz photo.jpg` means an input
            if not Path(word).suffix and not Path(word).exists():
                parser.error(f"--save {word}: expected {', '.join(KINDS)}")
            args.inputs.append(word)
    args.motion = args.motion == "on"
    args.save = [kind for kind in KINDS if kind in args.save]
    if args.no_render and not args.save and not args.html:
        parser.error("--no-render leaves nothing to write: add --save or --html")
    if bool(args.inputs) + (args.webcam is not None) + (args.keypoints is not None) > 1:
        parser.error("expected inputs, --webcam or --keypoints, one of them")
    if args.keypoints is None and (args.image_size or args.format):
        parser.error("--image_size and --format go with --keypoints")
    numbered = any("%" in name or Path(name).is_dir() for name in args.inputs)
    if args.keypoints is None and args.fps and not numbered:
        parser.error("--fps goes with --keypoints, or numbered images: a folder or frames/%04d.png")
    if args.keypoints and (args.max_frames or args.start or args.end or args.detector != "auto"):
        parser.error("--max_frames, --start, --end and --detector do not go with --keypoints")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns 0, 1 if some input failed, 2 for an invalid call or file."""
    args = parse(argv)
    configure_output()
    return run_command(partial(_run, args))


def _run(args: argparse.Namespace) -> int:
    demo = _Demo(args)
    errors: list[UserError] = []
    for path, stem, find in demo.jobs:
        try:
            demo.process(path, stem, find)
            continue
        except UserError as error:
            errors.append(error)
        except MemoryError:
            errors.append(RunError(f"{path}: out of memory"))
        except Exception as error:  # one bad file does not stop a folder
            log.debug("%s", path, exc_info=True)
            errors.append(RunError(f"{path}: {type(error).__name__}: {error}"))
        print(f"error: {errors[-1]}", file=sys.stderr)
    if errors and len(demo.jobs) > 1:
        print(f"{len(errors)} of {len(demo.jobs)} inputs failed", file=sys.stderr)
        return 1
    return errors[0].exit_code if errors else 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops what libraries print past Python while they load: LiteRT says that it has started."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


class _Demo:
    """One run of the command line: its options, networks, inputs, and the seconds of each stage."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        from demo.api import Estimator
        from demo.lib import lifting, media

        self.args, folder, detected = args, Path(args.output), args.keypoints is None
        self.files = [] if detected else [Path(args.keypoints)]
        if detected and args.webcam is None:
            # With --fps a folder is one video of numbered images.
            folders = [Path(name) for name in args.inputs if args.fps and Path(name).is_dir()]
            others = [name for name in args.inputs if Path(name) not in folders]
            self.files = folders + (media.expand(others) if others else [])
            self.files = self.files or media.expand([DEMO / "figure"])
        options = {name: getattr(args, name) for name in OPTIONS}
        options["detector"] = args.detector if detected else None
        options["device"] = f"cuda:{args.gpu}" if args.gpu or args.device == "cuda" else args.device
        with _quiet():
            weights = lifting.find_lifter(args.previous_dir, args.backend)
            self.estimator = Estimator(weights=weights, **options)
        if "HRNet" not in self.estimator.detector_name:
            torch.set_num_threads(1)  # HTNet's layers are so small that threads wait for each other
        found_by = self.estimator.detector_name if detected else f"keypoints of {args.keypoints}"
        log.info("2D pose: %s", found_by)
        log.info("lifter: %s", self.estimator.lifter.name)
        self.jobs: list[tuple[Path, Path, Callable[[Path], tuple[Result, Frames | None]]]]
        if not detected:
            self.jobs = [(self.files[0], folder / self.files[0].resolve().stem, self.keypoints)]
        elif args.webcam is not None:
            stem = folder / f"webcam_{args.webcam}"
            self.jobs = [(Path(f"{stem}_recorded.mp4"), stem, self.webcam)]
        else:
            finds = [self.video if media.is_video(file) else self.image for file in self.files]
            self.jobs = list(zip(self.files, stems(self.files, folder), finds, strict=True))
        self.exposed = [file.name for file in self.files if file.resolve().parent == folder.resolve()]
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def process(self, path: Path, stem: Path, find: Callable[[Path], tuple[Result, Frames | None]]) -> None:
        """Lifts one input, writes its outputs and logs its line."""
        args = self.args
        endings = ["_3d.*"] * (not args.no_render) + [".html"] * args.html
        for kind in args.save:
            person = "" if kind in ("npz", "json", "csv") else "_person_*"
            endings.append(f"{person}_angles.csv" if kind == "angles" else f"{person}.{kind}")
        patterns = [glob.escape(stem.name) + ending for ending in endings]
        if hit := [name for name in self.exposed if any(fnmatch(name, pattern) for pattern in patterns)]:
            raise UserError(
                f"{stem.with_name(hit[0])}: an input would be overwritten; choose another --output"
            )
        if args.skip_done and path in self.files and path.exists():
            oldest = [min((p.stat().st_mtime for p in stem.parent.glob(p)), default=0) for p in patterns]
            if min(oldest) >= path.stat().st_mtime:
                log.info("%s: done already", path)
                return
        self.seconds.clear()
        result, frames = find(path)
        with self.timed("3D"):
            self.estimator.lift(result, max_people=args.num_person, person=args.person)
        with self.timed("write"):
            written = self.write(result, stem, frames)
        if written:
            log.info("%s: wrote %s", stem.parent, ", ".join(file.name for file in written))
        log.info(report(result, self.seconds))

    def image(self, path: Path) -> tuple[Result, Frames]:
        from demo.lib import media
        from demo.lib.result import Result

        with self.timed("read"):
            image = media.read_image(path)
        with self.timed("2D"):
            result = self.estimator.find([image], Result(str(path), (0, 0), 0, None), still=True)
        return result, lambda: [image]

    def video(self, path: Path) -> tuple[Result, Frames]:
        from demo.lib import videos

        def opened() -> videos.Video:
            return videos.Video(path, start=self.args.start, end=self.args.end, fps=self.args.fps)

        def frames() -> Iterator[np.ndarray]:
            with opened() as video:
                yield from islice(video, self.args.max_frames)

        with self.timed("2D"), opened() as video:
            shown = progress(islice(video, self.args.max_frames), desc=path.name, unit="frame")
            result = self.estimator.find_video(video, shown, str(path))
        if video.notes:
            log.warning("%s: warning: %s", path, result.notes["video"])
        return result, frames

    def webcam(self, path: Path) -> tuple[Result, Frames]:
        from demo.lib import videos

        log.info("recording webcam %d to %s; Ctrl-C ends it", self.args.webcam, path)
        notes = videos.record(self.args.webcam, path, self.args.max_frames)
        result, frames = self.video(path)
        result.source = f"webcam {self.args.webcam}"
        for note in notes:
            log.warning("%s: warning: %s", result.source, note)
            result.notes["video"] = "; ".join(filter(None, (result.notes.get("video"), note)))
        return result, frames

    def keypoints(self, path: Path) -> tuple[Result, None]:
        from demo.lib.keypoint_files import read_keypoints

        args = self.args
        with self.timed("read"):
            result = read_keypoints(path, image_size=args.image_size, fps=args.fps, format=args.format)
        _, *notes = result.notes["2D pose"].split("; ")
        if args.fps and args.fps != result.fps:
            notes.append(f"its own rate, {result.fps:g} frames per second, is used")
        if args.motion and not result.fps and result.frame_count > 1:
            notes.append("each frame is lifted alone, as its rate is unknown; add --fps")
        for note in notes:
            log.warning("%s: warning: %s", path, note)
        return result, None

    def write(self, result: Result, stem: Path, frames: Frames | None) -> list[Path]:
        """Writes what was asked for; people without ``frames`` are shown on white."""
        import numpy as np

        from demo.lib import export, render, videos, viewer

        written: list[Path] = []
        shown = not self.args.no_render and result.frame_count > 0
        if shown:
            white = np.full((*result.image_size[::-1], 3), 255, np.uint8)
            images = frames() if frames else repeat(white, result.frame_count)
        if shown and result.frame_count == 1 and result.fps is None:
            written.append(stem.with_name(f"{stem.name}_3d.png"))
            render.write_image(written[-1], next(render.rendered(result, images, max_side=MAX_SIDE)))
        elif shown:
            written.append(stem.with_name(f"{stem.name}_3d.mp4"))
            rate, copies = result.fps or UNKNOWN_FPS, [1] * result.frame_count
            if result.frame_times is not None and len(result.frame_times) > 1:  # an MP4 has one rate
                rate = min(60.0, 1 / float(np.quantile(np.diff(result.frame_times), 0.25)))
                rows = videos.resample(result.frame_times, rate)
                copies = np.bincount(rows, minlength=result.frame_count).tolist()
                log.info("%s: resampled to %.4g frames per second", written[-1].name, rate)
            rendered = render.rendered(result, images)
            with videos.VideoWriter(written[-1], rate) as writer:
                for image, times in zip(progress(rendered, total=result.frame_count), copies, strict=True):
                    for _ in range(times):
                        writer.write(image)
        written += export.save(result, stem, self.args.save)
        if self.args.html:
            written.append(stem.with_name(f"{stem.name}.html"))
            viewer.write_viewer(result, written[-1], frames() if frames else None)
        return written


def stems(files: Sequence[Path], folder: Path) -> list[Path]:
    """Paths of the outputs without their endings: the input's stem, with suffix or number if it is shared."""
    uses = Counter(file.stem.casefold() for file in files)  # on some systems case makes no difference
    names: dict[str, Path] = {}
    for file in files:
        base = name = file.stem if uses[file.stem.casefold()] == 1 else file.name.replace(".", "_")
        number = 1
        while name.casefold() in names:
            number += 1
            name = f"{base}_{number}"
        names[name.casefold()] = folder / name
    return list(names.values())


def report(result: Result, seconds: dict[str, float]) -> str:
    """One line: who was found, how sure the keypoints are, what speaks against the poses, seconds."""
    import numpy as np

    from demo.api import warnings
    from demo.lib.result import MIN_CONFIDENCE

    people = len(result.tracks)
    parts = [f"{people} {'person' if people == 1 else 'people'}" if people else "nobody found"]
    if people:
        scores = np.concatenate([track.scores[~track.interpolated] for track in result.tracks])
        low = int((scores < MIN_CONFIDENCE).sum())
        parts.append(f"mean keypoint score {scores.mean():.2f}")
        parts.append(f"{low} of {scores.size} joints below {MIN_CONFIDENCE:g}")
    if filled := sum(int(track.interpolated.sum()) for track in result.tracks):
        parts.append(f"{filled} poses interpolated")
    parts += [f"{name} {result.notes[name]}" for name in ("left out", "people kept") if name in result.notes]
    line = "; ".join([", ".join(parts), *(f"warning: {warning}" for warning in warnings(result))])
    return (
        f"{result.source}: {line} ({', '.join(f'{stage} {time:.2f} s' for stage, time in seconds.items())})"
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, which removes unfinished files
    sys.exit(main())
