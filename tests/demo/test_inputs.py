"""Files found by name, and pictures in every state that files come in."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from common.errors import UserError
from demo.lib.inputs import InputError, expand, is_video, read_picture

# Red, green, blue, white: every rotation and mirror image is another arrangement.
CORNERS = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 250]]], np.uint8)
PICTURE = CORNERS.repeat(8, axis=0).repeat(12, axis=1)


def saved(path, picture=PICTURE, **options):
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


def png(width, height):
    """A PNG file of a header and of pixels that are missing."""
    parts = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT", b"IEND"
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# Finding files


def test_files_folders_and_globs_become_files_in_order_once_each(tmp_path):
    for name in ("b.PNG", "a.jpg", "film.mp4", "notes.txt", ".hidden.jpg", "c[1].png"):
        (tmp_path / name).touch()
    (tmp_path / "deeper.png").mkdir()
    (tmp_path / "deeper.png" / "d.jpg").touch()
    names = [path.name for path in expand([tmp_path / "b.PNG", tmp_path])]
    assert names == ["b.PNG", "a.jpg", "c[1].png", "film.mp4"]
    assert [path.name for path in expand([tmp_path / "*.[pP]*"])] == ["b.PNG", "c[1].png"]
    assert [path.name for path in expand([tmp_path / "**" / "*"])] == [
        "a.jpg", "b.PNG", "c[1].png", "d.jpg", "film.mp4",
    ]  # fmt: skip
    assert [path.name for path in expand([tmp_path / "c[1].png", tmp_path / "notes.txt"])] == [
        "c[1].png", "notes.txt",
    ]  # fmt: skip


def test_all_that_is_not_there_is_named_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    wrong = [tmp_path / "gone.jpg", tmp_path / "empty", tmp_path / "*.png"]
    with pytest.raises(UserError) as caught:
        expand(wrong)
    assert all(str(path) in str(caught.value) for path in wrong)
    assert caught.value.exit_code == 2


def test_videos_are_told_by_their_suffix():
    assert is_video("a/b.MP4") and is_video("x.avi") and not is_video("x.png")


# Pictures


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_honoured(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_picture(path), expected)
    assert np.array_equal(expected, PICTURE) == (orientation == 1)


def test_a_phone_photo_held_upright_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera lay on its side: the scene's top is at the stored picture's left.
    stored = np.rot90(PICTURE)
    found = read_picture(saved(tmp_path / "phone.jpg", np.ascontiguousarray(stored), exif=exif, quality=95))
    assert found.shape == PICTURE.shape and np.abs(found.astype(int) - PICTURE)[2:6, 2:10].max() < 40


def test_damaged_exif_data_leave_the_picture_readable(tmp_path):
    path = saved(tmp_path / "odd.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert read_picture(path).shape == PICTURE.shape


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "ppm", "webp", "jpg", "jp2"])
def test_formats_give_rgb(tmp_path, suffix):
    options = {"quality": 95} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    found = read_picture(saved(tmp_path / f"picture.{suffix}", **options))
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.abs(found.astype(int) - PICTURE)[2:6, 2:10].max() <= (40 if suffix == "jpg" else 0)


def test_grey_and_two_colours_become_rgb(tmp_path):
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    found = read_picture(saved(tmp_path / "grey.png", grey))
    assert np.array_equal(found, grey[..., None].repeat(3, axis=2))
    found = read_picture(saved(tmp_path / "lines.png", Image.fromarray(grey > 100)))
    assert np.array_equal(found[..., 0], (grey > 100) * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(tmp_path, mode):
    pixels = np.zeros((4, 6, 4), np.uint8)  # Black, and transparent on the left.
    pixels[:, 3:, 3] = 255
    found = read_picture(saved(tmp_path / "cut.png", Image.fromarray(pixels).convert(mode)))
    assert (found[:, :3] == 255).all() and (found[:, 3:] == 0).all()


def test_half_transparent_parts_are_mixed_with_white(tmp_path):
    pixels = np.full((2, 2, 4), (0, 0, 0, 51), np.uint8)
    assert (read_picture(saved(tmp_path / "veil.png", pixels)) == 204).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path, suffix):
    grey = np.array([[0, 257, 25700, 65535]], np.uint16)
    found = read_picture(saved(tmp_path / f"deep.{suffix}", grey))
    assert found[0, :, 1].tolist() == [0, 1, 100, 255]


def test_floating_point_grey_is_stretched(tmp_path):
    grey = np.array([[-2.0, 0.0, 2.0, np.nan]], np.float32)
    assert read_picture(saved(tmp_path / "float.tif", grey))[0, :, 0].tolist() == [0, 128, 255, 0]


def test_cmyk_becomes_rgb(tmp_path):
    found = read_picture(saved(tmp_path / "print.jpg", Image.fromarray(PICTURE).convert("CMYK"), quality=95))
    assert np.abs(found.astype(int) - PICTURE)[2:6, 2:10].max() < 40


def test_one_pixel_is_a_picture(tmp_path):
    assert read_picture(saved(tmp_path / "dot.png", CORNERS[:1, :1])).tolist() == [[[250, 0, 0]]]


@pytest.mark.parametrize("size", [(20000, 20000), (15000, 12000), (40000, 10)])
def test_huge_pictures_are_refused_from_their_header(tmp_path, size):
    path = tmp_path / "huge.png"
    path.write_bytes(png(*size))
    assert "scale it down" in refusal(path)


def test_a_header_that_lies_about_the_size_is_damage(tmp_path):
    path = tmp_path / "lying.png"
    path.write_bytes(png(300, 200))
    assert "damaged or cut short" in refusal(path)
    content = bytearray(saved(tmp_path / "lying.bmp").read_bytes())
    content[22:26] = (3000).to_bytes(4, "little")  # The height.
    (tmp_path / "lying.bmp").write_bytes(content)
    assert "damaged or cut short" in refusal(tmp_path / "lying.bmp")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif"])
def test_cut_files_are_refused_by_name(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    whole = saved(tmp_path / f"whole.{suffix}", noise).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    for length in (len(whole) // 2, 30, 4):
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("seed", range(30))
def test_any_damage_gives_pixels_or_a_named_refusal(tmp_path, seed):
    random = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"][seed % 6])
    content = np.frombuffer(file.getvalue(), np.uint8).copy()
    content[random.integers(0, len(content), 12)] = random.integers(0, 256, 12)
    path = tmp_path / "damaged"
    path.write_bytes(content.tobytes())
    try:
        assert read_picture(path).ndim == 3
    except InputError as error:
        assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "HEIC"),
        (b"<!DOCTYPE html>", "web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
        (b"words", "no picture"),
    ],
)
def test_other_files_are_refused_for_what_they_are(tmp_path, content, words):
    path = tmp_path / "other.jpg"
    path.write_bytes(content)
    assert words in refusal(path)


def test_what_cannot_be_opened_is_named(tmp_path):
    assert "no such file" in refusal(tmp_path / "gone.png")
    assert "folder" in refusal(tmp_path)
