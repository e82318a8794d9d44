from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.console import UserError
from demo.lib import media
from demo.lib.media import read_image

SQUARE = np.zeros((40, 60, 3), np.uint8)
SQUARE[:20, :30] = [250, 10, 10]  # red in the upper left corner


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image_applies_exif_rotation(tmp_path: Path, orientation: int) -> None:
    undo = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    exif = Image.Exif()
    exif[media.ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(undo(SQUARE))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), SQUARE)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "LA", "I;16", "F"])
def test_read_image_gives_rgb_for_every_mode(tmp_path: Path, mode: str) -> None:
    grey = np.tile(np.linspace(0, 255, 60, dtype=np.uint8), (40, 1))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(grey.astype(np.float32) / 1000)
    else:
        image = Image.fromarray(grey).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "F") else "a.png")
    image.save(path)
    pixels = read_image(path)
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, -1].mean() > 240
    assert pixels[:, 0].mean() < 10


def test_read_image_lays_transparency_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").min() == 255


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"%PDF-1.7", "PDF"),
        (b"version https://git-lfs.github.com", "LFS"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a.jpg"),
        (b"BM" + bytes(16) + (60_000).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24), "a.jpg"),
    ],
    ids=["empty", "pdf", "lfs", "heic", "cut", "60,000 pixels wide"],
)
def test_read_image_reports_other_files(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=word):
        read_image(tmp_path / "a.jpg")


def test_read_image_reports_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jpg"):
        with pytest.raises(UserError, match=path.name):
            read_image(path)


def test_expand_takes_media_of_folders_and_globs_once(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png", ".hidden.jpg", "._a.png", "notes.txt", "film.MP4"):
        (tmp_path / name).write_bytes(b"x")
    found = media.expand([tmp_path, str(tmp_path / "*.png"), tmp_path / "notes.txt"])
    assert [path.name for path in found] == ["a.png", "b.jpg", "film.MP4", "notes.txt"]
    with pytest.raises(UserError, match="none"):
        media.expand([tmp_path / "none.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        media.expand([tmp_path / "empty"])
