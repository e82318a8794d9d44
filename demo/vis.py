"""From pictures, videos, a webcam or key points to 3D poses: ``python demo/vis.py --help``."""

from __future__ import annotations

import logging
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common.errors import RunError, UserError
    from demo.lib.arguments import DEMO, parse
except ModuleNotFoundError as error:  # Python looks beside this file, and not in the folder above.
    sys.exit(f"error: {error}: run `pip install -r requirement.txt` in the project's folder first")

if TYPE_CHECKING:
    import numpy as np

    from demo.lib.person import Detector
    from demo.lib.pipeline import Lifter, Stages
    from demo.lib.result import Result

CHECKPOINTS = DEMO.parent / "ckpt"
DETECTORS = DEMO / "lib" / "checkpoint"
log = logging.getLogger("demo")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns 0, 1 if some input failed, 2 for a wrong call or file."""
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    try:
        return _run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(args: Namespace) -> int:
    from demo.lib import detectors, inputs, outputs

    folder = Path(args.output)
    if args.keypoints is not None:
        log.info("2D pose: key points of %s", args.keypoints)
        return _each([(args.keypoints, partial(_keypoints, args, lifter=_lifter(args)))])
    files = [] if args.webcam is not None else inputs.expand(args.inputs or [DEMO / "figure"])
    name, which = detectors.choose(args.detector, DETECTORS)
    log.info(which)
    detector = detectors.load(name, DETECTORS, _device(args))
    lifter = _lifter(args)
    note = detectors.NAMES[name]
    if args.webcam is not None:
        return _each([(f"webcam {args.webcam}", partial(_webcam, args, detector, note, lifter))])
    if not any(map(inputs.is_video, files)) and args.webcam is None:
        for option in [name for name in ("max_frames", "smooth") if getattr(args, name)]:
            log.warning("warning: --%s is for videos, and none is among the inputs", option)
    jobs = []
    for file, stem in zip(files, outputs.stems(files, folder), strict=True):
        job = _video if inputs.is_video(file) else _picture
        jobs.append((str(file), partial(job, args, file, stem, detector, note, lifter, inputs=files)))
    return _each(jobs)


def _each(jobs: Sequence[tuple[str, Callable[[], None]]]) -> int:
    """Runs each job; one that fails keeps the exit code from 0, but not the rest from running."""
    failed: list[UserError] = []
    for name, job in jobs:
        try:
            job()
        except UserError as error:
            failed.append(error)
        except OSError as error:
            failed.append(RunError(f"{error.filename or name}: {error.strerror or error}"))
        except MemoryError:
            failed.append(RunError(f"{name}: too large for this machine's memory"))
        except Exception as error:  # OpenCV and PyTorch have errors of their own, for a full memory too
            log.debug("%s", name, exc_info=True)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            failed.append(RunError(f"{name}: could not be done ({reason})"))
        else:
            continue
        print(f"error: {failed[-1]}", file=sys.stderr)
    if len(jobs) == 1:
        return failed[0].exit_code if failed else 0
    if failed:
        print(f"{len(failed)} of {len(jobs)} inputs failed", file=sys.stderr)
    return 1 if failed else 0


def _device(args: Namespace):
    from common.device import choose

    return choose(args.device, args.gpu)


def _lifter(args: Namespace) -> Lifter:
    from common import checkpoint
    from demo.lib import lifters
    from demo.lib.pipeline import Lifter

    path = lifters.find(args.previous_dir, CHECKPOINTS, args.backend)
    described = checkpoint.describe(path)
    chosen = f"; of {', '.join(lifters.PREFERRED)} in {CHECKPOINTS.name}/ the first there"
    log.info("lifter: %s%s", described, "" if args.previous_dir else chosen)
    device = _device(args)
    return Lifter(
        lifters.load(path, device, args.backend),
        device,
        name=lifters.short_name(path, described),
        window=args.window == "person",
        smooth=args.smooth,
        place=args.focal is not None or args.height_m is not None,
        focal=args.focal,
        height_m=args.height_m,
    )


def _keypoints(args: Namespace, *, lifter: Lifter) -> None:
    import numpy as np

    from demo.lib.keypoint_files import read_keypoints
    from demo.lib.outputs import spare_inputs
    from demo.lib.pipeline import Stages, from_keypoints

    source, stages = Path(args.keypoints), Stages()
    stem = Path(args.output) / source.resolve().stem
    spare_inputs(stem, [source])
    with stages.timed("read"):
        size = tuple(args.image_size) if args.image_size else None
        given = read_keypoints(source, image_size=size, fps=args.fps)
    if args.fps and args.fps != given.fps:
        log.warning(
            "%s: warning: it holds its own rate, %g frames per second; --fps is ignored", source, given.fps
        )
    if args.smooth and not given.fps and given.frame_count > 1:
        log.warning("%s: warning: not smoothed, as frames have no times; give --fps", source)
    for note in given.notes:
        log.warning("%s: warning: %s", source, note)
    result = from_keypoints(given, lifter, stages)
    result.notes["2D pose"] = "; ".join([f"key points of {given.source}", *given.notes])

    def frames() -> Iterator[np.ndarray]:
        """An empty ground, as there is no picture under these key points."""
        ground = np.full((given.image_size[1], given.image_size[0], 3), 255, np.uint8)
        return (ground for _ in range(given.frame_count))

    _finish(args, result, stem, frames, stages, photographed=False)


def _picture(
    args: Namespace,
    path: Path,
    stem: Path,
    detector: Detector,
    note: str,
    lifter: Lifter,
    *,
    inputs: Sequence[Path],
) -> None:
    from demo.lib.inputs import read_picture
    from demo.lib.outputs import spare_inputs
    from demo.lib.pipeline import Stages, from_picture

    stages = Stages()
    spare_inputs(stem, inputs)
    with stages.timed("read"):
        image = read_picture(path)
    result = from_picture(image, str(path), detector, lifter, stages)
    result.notes["2D pose"] = note
    _finish(args, result, stem, lambda: iter([image]), stages)


def _video(
    args: Namespace,
    path: Path,
    stem: Path,
    detector: Detector,
    note: str,
    lifter: Lifter,
    *,
    inputs: Sequence[Path] = (),
    source: str | None = None,
    said: Sequence[str] = (),
) -> None:
    from tqdm import tqdm

    from demo.lib.outputs import spare_inputs
    from demo.lib.pipeline import Stages, from_frames
    from demo.lib.video import Video

    stages = Stages()
    spare_inputs(stem, inputs)
    if hasattr(detector, "reset"):
        detector.reset()
    detect = getattr(detector, "track", detector)

    def frames() -> Iterator[np.ndarray]:
        with Video(path) as again:
            yield from islice(again, args.max_frames)

    with Video(path) as video:
        total = min(filter(None, (video.frame_count, args.max_frames)), default=None)
        seen = tqdm(islice(video, args.max_frames), path.name, total, unit="frame", disable=None, leave=False)
        result = from_frames(seen, source or str(path), video.fps, detect, lifter, stages)
        if video.notes:
            log.warning("%s: warning: %s", path, "; ".join(video.notes))
        if found := [*said, *video.notes]:
            result.notes["video"] = "; ".join(found)
    result.notes["2D pose"] = note
    _finish(args, result, stem, frames, stages)


def _webcam(args: Namespace, detector: Detector, note: str, lifter: Lifter) -> None:
    """Records the webcam frame by frame, and then treats the recording as any video."""
    from demo.lib.recording import record
    from demo.lib.video import webcam

    stem = Path(args.output) / f"webcam_{args.webcam}"
    path = stem.with_name(f"{stem.name}_recorded.mp4")
    with webcam(args.webcam) as camera:
        log.info("recording webcam %d to %s; Ctrl-C ends it", args.webcam, path)
        count, fps = record(camera, path, args.max_frames)
    log.info("recorded %d frames, %.1f per second", count, fps)
    for said in camera.notes:
        log.warning("%s: warning: %s", camera.name, said)
    _video(args, path, stem, detector, note, lifter, source=camera.name, said=camera.notes)


def _finish(
    args: Namespace,
    result: Result,
    stem: Path,
    frames: Callable[[], Iterator[np.ndarray]],
    stages: Stages,
    *,
    photographed: bool = True,
) -> None:
    """Writes what was asked for of one result, and prints its line."""
    from demo.lib.outputs import write
    from demo.lib.summary import finish, report

    finish(result, most=args.num_person, person=args.person)
    with stages.timed("write"):
        written = write(
            result,
            stem,
            frames,
            render=not args.no_render,
            save=args.save,
            html=args.html,
            photographed=photographed,
        )
    if written:
        log.info("%s: wrote %s", stem.parent, ", ".join(path.name for path in written))
    log.info(report(result, stages))


if __name__ == "__main__":
    # As an exception it lets half-written files be cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
