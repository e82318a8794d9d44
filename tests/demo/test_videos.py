import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from common.console import UserError
from demo.lib.media import is_video
from demo.lib.videos import Video, VideoWriter, resample

SUITE = [
    (container, codec)
    for container, codecs in {
        "mp4": "libx264 mpeg4 libx265 libsvtav1 mjpeg",
        "mov": "libx264 mpeg4 mjpeg prores dvvideo",
        "mkv": "libx264 mpeg4 libvpx libvpx-vp9 ffv1 mjpeg rawvideo mpeg2video",
        "webm": "libvpx libvpx-vp9 libsvtav1",
        "avi": "mpeg4 mjpeg libx264 rawvideo huffyuv ffv1",
        "ts": "libx264 mpeg2video libx265",
        "mpg": "mpeg1video mpeg2video",
        "flv": "libx264 flv",
        "nut": "rawvideo ffv1",
        "3gp": "libx264 h263",
        "wmv": "wmv2 msmpeg4",
        "mxf": "mpeg2video",
    }.items()
    for codec in codecs.split()
]


def write(
    path: Path, codec: str = "libx264", frames: int = 10, *, rate: int = 25, times: Any = None, **extra: Any
) -> None:
    """A clip whose frames get brighter; with ``times`` in milliseconds."""
    size = {"h263": (176, 144), "dvvideo": (720, 576)}.get(codec, (64, 48))
    names = {"wmv": "asf", "ts": "mpegts", "mpg": "mpeg", "mkv": "matroska"}
    with av.open(str(path), "w", format=names.get(path.suffix[1:])) as container:
        stream = container.add_stream(codec, rate)
        stream.width, stream.height = size
        formats = {"mjpeg": "yuvj420p", "prores": "yuv422p10le", "huffyuv": "yuv422p"}
        stream.pix_fmt = formats.get(codec, "yuv420p")
        for name, value in extra.items():
            setattr(stream.codec_context, name, value)
        for number in range(frames):
            grey = np.full((size[1], size[0], 3), 20 + 20 * number % 240, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_video_reads_every_container_and_codec(tmp_path: Path) -> None:
    done = 0
    for container, codec in SUITE:
        path = tmp_path / f"{codec}.{container}"
        try:
            write(path, codec)
        except (av.error.FFmpegError, ValueError, TypeError):
            continue  # this build of FFmpeg cannot write it
        with Video(path) as video:
            brightness = [frame.mean() for frame in video]
            steps = np.diff(video.times)
        assert len(brightness) == 10, path.name
        assert (np.diff(brightness) > 10).all(), path.name
        np.testing.assert_allclose(steps, 0.04, atol=0.0015, err_msg=path.name)
        done += 1
    assert done >= 25


def test_video_keeps_each_frames_own_time(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(20) * 40, 800 + np.arange(20) * 200])
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pts in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = int(pts), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with Video(tmp_path / "a.mp4") as video:
        assert sum(1 for _ in video) == 40
        np.testing.assert_allclose(video.times * 1000, times, atol=1)
        assert any("rate varies" in note for note in video.notes)
    with Video(tmp_path / "a.mp4", start=0.5, end=1.1) as video:
        assert sum(1 for _ in video) == len([each for each in times if 500 <= each < 1100])


def test_video_gives_square_pixels(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", sample_aspect_ratio=Fraction(2, 1))
    with Video(tmp_path / "a.mkv") as video:
        assert video.size == (128, 48)


def test_video_without_a_known_suffix_is_recognised(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").rename(tmp_path / "clip.xyz")
    assert is_video(tmp_path / "clip.xyz")
    (tmp_path / "text.xyz").write_text("not a video")
    assert not is_video(tmp_path / "text.xyz")


def test_video_of_numbered_images_has_the_given_rate(tmp_path: Path) -> None:
    from PIL import Image

    for number in (8, 9, 10, 11):
        Image.new("RGB", (32, 24), (number * 20,) * 3).save(tmp_path / f"frame_{number}.png")
    for source in (tmp_path / "frame_%d.png", tmp_path):
        with Video(source, fps=10) as video:
            assert [round(frame.mean() / 20) for frame in video] == [8, 9, 10, 11]
            np.testing.assert_allclose(video.times, [0, 0.1, 0.2, 0.3], atol=1e-9)
    assert is_video(tmp_path / "frame_%d.png")


def test_video_that_breaks_off_is_read_up_to_there(tmp_path: Path) -> None:
    write(tmp_path / "a.ts", frames=50)
    content = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "b.ts").write_bytes(content[: len(content) * 2 // 3])
    with Video(tmp_path / "b.ts") as video:
        assert 0 < sum(1 for _ in video) <= 50


@pytest.mark.parametrize("content", [b"", b"<html>", b"\0\0\0\x20ftypisom" + bytes(500)])
def test_video_reports_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4"):
        Video(tmp_path / "a.mp4")


def test_video_names_need_no_encoding(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    os.rename(tmp_path / "a.mp4", path)
    script = "import sys; from demo.lib.videos import Video; print(sum(1 for _ in Video(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "10", done.stderr


def test_writer_makes_h264_that_is_whole_or_not_there(tmp_path: Path) -> None:
    frames = [np.full((49, 65, 3), 20 * number, np.uint8) for number in range(10)]
    with VideoWriter(tmp_path / "a.mp4", 12.5) as writer:
        for frame in frames:
            writer.write(frame)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with Video(tmp_path / "a.mp4") as video:
        assert video.size == (64, 48)
        assert len(list(video)) == 10
        assert video.fps == pytest.approx(12.5)
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "b.mp4", 25) as writer:
        writer.write(frames[0])
        raise ZeroDivisionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


def test_resample_repeats_rows_at_a_constant_rate() -> None:
    times = np.array([0, 0.04, 0.08, 0.28])
    assert resample(times, 25).tolist() == [0, 1, 2, 2, 2, 2, 2, 3]
    assert resample(np.arange(5) / 30, 30).tolist() == [0, 1, 2, 3, 4]
