"""Inputs by name, and images. Pillow knows the size from the header, EXIF rotation and transparency."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.console import UserError

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""

IMAGE_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .avif .tif .tiff .bmp .gif .ppm .pgm .pbm .jp2 .heic .heif".split()
)
VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .3gp .mts .m2ts .ts .ogv .insv .h264 .hevc .mxf "
    ".vob .dv".split()
)
MAX_PIXELS = 178_956_970  # Pillow's own limit: 0.5 GB as RGB
MAX_SIDE = 32_766  # OpenCV's remap holds positions in 16 bits
ORIENTATION = 0x0112  # EXIF tag
HINTS = {
    "ftyphei": "HEIC is not read: save the image as JPEG or PNG",
    "ftypmif1": "HEIF is not read: save the image as JPEG or PNG",
    "version https://git-lfs": "a Git LFS pointer: fetch the file with `git lfs pull`",
    "%PDF": "a PDF: save its page as JPEG or PNG",
    "<": "a web page or SVG: save the image itself as JPEG or PNG",
}


def expand(patterns: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files, folders and globs as files: every file once, in order.

    A named file is taken whatever it is, and so is a pattern of numbered images, ``frames/%04d.png``. Of
    folders (without those inside them) and globs, images and videos are taken, sorted by name, without hidden
    files.

    Raises:
        UserError: A name is missing, or a folder or glob has no images or videos; the message names all.
    """
    files: list[Path] = []
    problems = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found = _media(path.iterdir())
        elif path.exists() or "%" in path.name:
            found = [path]
        else:
            found = _media(map(Path, glob.iglob(str(pattern), recursive=True)))
        files += found
        if not found:
            problems.append(
                f"{pattern}: no images or videos" if path.is_dir() else f"{pattern}: no such file"
            )
    if problems:
        raise UserError("; ".join(problems) + "; expected images or videos, folders of them, or globs")
    return list(dict.fromkeys(files))


def _media(paths: Iterable[Path]) -> list[Path]:
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(
        path for path in paths if path.suffix.lower() in known and path.name[0] != "." and path.is_file()
    )


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a video: by its suffix where that is known, else by asking the decoder."""
    path = Path(path)
    if path.is_dir() or ("%" in path.name and not path.exists()):
        return True  # numbered images
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return False
    if path.suffix.lower() in VIDEO_SUFFIXES or not path.is_file():
        return path.suffix.lower() in VIDEO_SUFFIXES
    import av

    try:
        with open(path, "rb") as file, av.open(file) as container:
            return bool(container.streams.video) and not container.format.name.endswith("_pipe")
    except av.error.FFmpegError:
        return False


# Images


def read_image(path: str | os.PathLike[str]) -> Pixels:
    """Reads an image as people see it: upright, in colour, 8 bits per channel.

    EXIF rotation is applied. Grey and palettes become RGB, transparent parts white, 16 bits 8; 32-bit and
    floating point grey is stretched from its darkest to its brightest value. Of animations the first image is
    read.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: The file is no image, damaged, or too large (known from its header).
    """
    with reported(path), open(path, "rb") as file, warnings.catch_warnings():
        from PIL import Image

        warnings.simplefilter("ignore")  # about sizes that are allowed here, and odd tags
        Image.init()
        try:
            image = Image.open(file, formats=[name for name in IMAGE_FORMATS if name in Image.OPEN])
        except Image.UnidentifiedImageError:
            raise UserError(hint(path)) from None
        check_size(*image.size)
        image.load()
        orientation = 1
        with suppress(Exception):  # damaged EXIF data leave a good image, only not rotated
            orientation = image.getexif().get(ORIENTATION, 1)
        return np.ascontiguousarray(_upright(_rgb(image), orientation))


def _rgb(image: Image.Image) -> Pixels:
    from PIL import Image

    if image.mode.startswith("I;16"):  # Pillow itself would clip instead of scale
        grey = ((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise UserError("expected finite values, found none")
        low, high = finite.min(), finite.max()
        scaled = (np.nan_to_num(values, nan=low).clip(low, high) - low) * (255 / max(high - low, 1e-300))
        return np.repeat(np.rint(scaled).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", image.size, (255, 255, 255))
        image.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(image.convert("RGB"))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes an EXIF orientation: 2 to 4 mirror and rotate, 5 to 8 also swap width and height."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)  # (W, H, 3) -> (H, W, 3)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def check_size(width: int, height: int) -> None:
    """Raises a UserError for images whose frames are too large to be held."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        limits = f"at most {MAX_SIDE:,} per side and {MAX_PIXELS:,} in all"
        raise UserError(f"{width} x {height} pixels, expected {limits}; scale it down")


def hint(path: str | os.PathLike[str]) -> str:
    """What a file is that could not be read, as far as its first bytes tell."""
    with open(path, "rb") as file:
        head = file.read(64).decode("latin1")
    known = (hint for mark, hint in HINTS.items() if head.startswith(mark) or head[4:].startswith(mark))
    return (
        next(known, "expected an image or a video, found something else or a damaged file")
        if head
        else "empty"
    )


@contextmanager
def reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever a damaged file makes the libraries raise into one line that names it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{os.fspath(path)}: {error}") from None
    except OSError as error:
        raise UserError(f"{os.fspath(path)}: {error.strerror or error}") from error
    except MemoryError:
        raise UserError(f"{os.fspath(path)}: too large for this machine's memory; scale it down") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{os.fspath(path)}: damaged or cut short ({reason}); copy it again") from error
