"""What the demo looks at: files found by name, and pictures, whatever state they are in.

Pictures are read with Pillow: it tells a picture's size from the header, before memory is taken for it, and
knows EXIF rotation, palettes and transparency.
"""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

# All that Pillow can decode by itself; for EPS, say, it would start another program.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
PICTURE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .avif .tif .tiff .bmp .gif .ppm .pgm .pbm .jp2 .heic .heif".split()
)
VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .3gp .mts .m2ts .ts .ogv".split()
)

MAX_PIXELS = 178_956_970  # Pillow's own limit; 0.5 GB as RGB.
MAX_SIDE = 32_766  # OpenCV's remap holds positions in 16 bits.
WHITE = (255, 255, 255)
ORIENTATION = 0x0112

NOT_PICTURES = (
    (4, b"ftyphei", "HEIC, which is not read: save the picture as JPEG or PNG"),
    (4, b"ftyphev", "HEIC, which is not read: save the picture as JPEG or PNG"),
    (4, b"ftypmif1", "HEIF, which is not read: save the picture as JPEG or PNG"),
    (0, b"version https://git-lfs", "a Git LFS pointer: fetch the picture itself with `git lfs pull`"),
    (0, b"<", "a web page or SVG: save the picture itself, as JPEG or PNG"),
    (0, b"%PDF", "a PDF: save its page as JPEG or PNG"),
)


class InputError(UserError):
    """A picture, video, webcam or key point file that cannot be read; the message names it."""


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file is taken for a video, by its suffix."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def expand(patterns: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files, folders and globs turned into files.

    A file that is named is taken whatever it is. Of folders (not of folders inside them) and of globs,
    pictures and videos are taken, sorted by name; hidden files are left out.

    Returns:
        Every file once, in the order of the patterns.

    Raises:
        UserError: Names that are not there, and folders and globs without pictures or videos; one message
            names all of them.
    """
    files: list[Path] = []
    problems = []
    for pattern in map(str, patterns):
        try:
            found, problem = _matching(pattern)
        except OSError as error:
            found, problem = [], error.strerror or "cannot be read"
        files += found
        if not found:
            problems.append(f"{pattern}: {problem}")
    if problems:
        raise UserError("; ".join(problems) + "; expected pictures or videos, folders of them, or globs")
    return list(dict.fromkeys(files))


def _matching(pattern: str) -> tuple[list[Path], str]:
    """The files that a pattern means, and what is wrong with it if there are none."""
    path = Path(pattern)
    if path.is_dir():
        return _media(path.iterdir()), "a folder without pictures or videos"
    if path.exists():
        return [path], ""
    if glob.has_magic(pattern):
        return _media(map(Path, glob.iglob(pattern, recursive=True))), "matches no picture or video"
    return [], "no such file or folder"


def _media(paths: Iterable[Path]) -> list[Path]:
    known = PICTURE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file()
    )


# Pictures


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a picture as people see it: upright, in colour, 8 bits a channel.

    EXIF rotation is applied. Grey and palettes become RGB, transparent parts white, 16 bits 8; 32-bit and
    floating point grey has no agreed range and is stretched from its darkest to its brightest value. Of
    animations the first picture is read. Colour profiles are ignored. Rows that a JPEG or PNG properly ends
    without stay grey or black, as in other programs.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: The file is no picture, damaged, cut short, or too large (which is told from its header).
    """
    with refusing(path), open(path, "rb") as file, warnings.catch_warnings():
        from PIL import Image

        warnings.simplefilter("ignore")  # On sizes that the limit here allows, and on odd tags.
        Image.init()
        try:
            image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        except Image.DecompressionBombError:
            raise InputError(f"over {MAX_PIXELS:,} pixels; scale it down") from None
        except Image.UnidentifiedImageError:
            file.seek(0)
            raise InputError(_what_it_is(file.read(64))) from None
        check_size(*image.size)
        image.load()
        orientation = 1
        with suppress(Exception):  # Damaged EXIF data leave a good picture, only not turned.
            orientation = image.getexif().get(ORIENTATION, 1)
        return np.ascontiguousarray(_turned(_rgb(image), orientation))


def check_size(width: int, height: int) -> None:
    """Refuses a picture or video whose frames are too large to be held, with an InputError."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        limits = f"at most {MAX_SIDE:,} a side and {MAX_PIXELS:,} in all"
        raise InputError(f"{width} x {height} pixels, expected {limits}; scale it down")


@contextmanager
def refusing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever a damaged file makes the libraries raise into one line that names it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, expected a file") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read by this user") from None
    except MemoryError:
        raise InputError(f"{path}: too large for this machine's memory; scale it down") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: damaged or cut short ({reason}); copy or download it again") from error


def _what_it_is(head: bytes) -> str:
    """Says what a file that is no picture is, as far as its first bytes tell."""
    if not head:
        return "empty"
    known = (words for start, magic, words in NOT_PICTURES if head[start:].startswith(magic))
    return next(known, f"no picture, or a damaged one; read are {', '.join(FORMATS)}")


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a decoded picture."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        # Pillow itself would clip instead of scale.
        grey = ((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        return np.repeat(_stretched(np.asarray(image))[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", image.size, WHITE)
        image.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(image.convert("RGB"))


def _stretched(values: np.ndarray) -> np.ndarray:
    """(H, W) uint8 from the lowest finite value, black, to the highest, white."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise InputError("no finite value in it")
    low, high = float(finite.min()), float(finite.max())
    known = np.nan_to_num(values.astype(np.float64), nan=low).clip(low, high)
    return np.rint((known - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation: 2 to 4 mirror and turn, 5 to 8 also exchange width and height."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)  # (W, H, 3) -> (H, W, 3)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
