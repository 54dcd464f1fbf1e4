"""Images are opened whatever they are, and only whole ones."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from mulcot_rd.images import ImageError, load_image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "LAB", "I;16", "I;16B", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "image.tiff"
    if mode.startswith("I;16"):
        Image.fromarray(np.arange(64 * 32, dtype=">u2" if mode == "I;16B" else "<u2").reshape(32, 64)).save(path)
    else:
        Image.new("RGB", (64, 32), "teal").convert(mode if mode != "F" else "L").convert(mode).save(path)
    image = load_image(path, 28)
    assert (image.mode, image.size) == ("RGB", (28, 28))


def test_the_ending_is_not_believed(tmp_path):
    path = tmp_path / "really_png.jpg"
    Image.new("RGB", (5, 5), "red").save(path, format="PNG")
    assert load_image(path).getpixel((2, 2)) == (255, 0, 0)


def test_transparency_lies_over_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert load_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_the_colour_that_a_png_calls_transparent_lies_over_white(tmp_path, mode):
    Image.new("RGB", (4, 4), "black").convert(mode).save(
        tmp_path / "clear.png", transparency=(0, 0, 0) if mode == "RGB" else 0
    )
    assert load_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, orientation):
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:8, :3] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    # Where the first row and the first column of the stored pixels belong, by the EXIF standard.
    upright = [
        pixels, pixels[:, ::-1], pixels[::-1, ::-1], pixels[::-1], pixels.transpose(1, 0, 2),
        np.rot90(pixels, -1), pixels[::-1, ::-1].transpose(1, 0, 2), np.rot90(pixels),
    ][orientation - 1]  # fmt: skip
    assert np.array_equal(np.asarray(load_image(tmp_path / "turned.png")), upright)


def test_of_the_exif_block_only_the_orientation_must_be_whole(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.XResolution] = 72.0
    Image.new("RGB", (10, 20)).save(tmp_path / "whole.jpg", exif=exif)
    raw = (tmp_path / "whole.jpg").read_bytes()
    entry = next(
        packed for order in "<>" if (packed := struct.pack(f"{order}HHL", ExifTags.Base.XResolution, 5, 1)) in raw
    )
    # A rational of which no numerator and denominator are there.
    (tmp_path / "broken.jpg").write_bytes(raw.replace(entry, entry[:4] + b"\xff\xff\xff\xff"))
    assert load_image(tmp_path / "broken.jpg").size == (20, 10)
    start = raw.index(b"Exif\0\0") + 6
    (tmp_path / "garbage.jpg").write_bytes(raw[:start] + b"\xff" * 12 + raw[start + 12 :])
    assert load_image(tmp_path / "garbage.jpg").size == (10, 20)


def test_the_first_picture_of_several_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for ending in ("gif", "webp", "png", "mpo"):
        frames[0].save(tmp_path / f"many.{ending}", save_all=True, append_images=frames[1:])
        red, green, blue = load_image(tmp_path / f"many.{ending}").getpixel((1, 1))
        assert red > 200
        assert max(green, blue) < 50


def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "one.png")

    def fail(image: Image.Image) -> None:
        raise struct.error("unpack requires a buffer of 8 bytes")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match=r"can't be read \(error\): .*one\.png"):
        load_image(tmp_path / "one.png")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match="image of 9000 x 9000 pixels is too large"):
        load_image(tmp_path / "large.png")
    Image.new("1", (4, 4)).save(tmp_path / "bomb.bmp")
    raw = bytearray((tmp_path / "bomb.bmp").read_bytes())
    raw[18:26] = struct.pack("<ii", 60_000, 60_000)
    (tmp_path / "bomb.bmp").write_bytes(raw)
    with pytest.raises(ImageError, match=r"DecompressionBombError\): .*bomb\.bmp"):
        load_image(tmp_path / "bomb.bmp")


def test_missing_broken_and_cut_images_name_the_file(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    Image.effect_noise((200, 200), 50).convert("RGB").save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:3000])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for name in ("nowhere.jpg", "text.jpg", "cut.jpg", "empty.jpg", "folder.jpg", "dangling.jpg", "x" * 300):
        with pytest.raises(ImageError, match=name):
            load_image(tmp_path / name)


def test_the_odd_originals_open(shared_data):
    paths = sorted((shared_data / "twitter2015" / "originals_odd").iterdir())
    assert len(paths) == 9
    assert {load_image(path, 280).size for path in paths} == {(280, 280)}
