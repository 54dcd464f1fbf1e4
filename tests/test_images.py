"""Images are opened whatever they are, and only whole ones."""

import numpy as np
import pytest
from PIL import Image

from mulcot_rd.images import ImageError, load_image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "image.tiff"
    if mode == "I;16":
        Image.fromarray(np.arange(64 * 32, dtype=np.uint16).reshape(32, 64)).save(path)
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


def test_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (10, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg").size == (20, 10)


def test_missing_broken_and_cut_images_name_the_file(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    Image.effect_noise((200, 200), 50).convert("RGB").save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:3000])
    for name in ("nowhere.jpg", "text.jpg", "cut.jpg", "x" * 300):
        with pytest.raises(ImageError, match=name):
            load_image(tmp_path / name)


def test_the_odd_originals_open(shared_data):
    paths = sorted((shared_data / "twitter2015" / "originals_odd").iterdir())
    assert len(paths) == 9
    assert {load_image(path, 280).size for path in paths} == {(280, 280)}
