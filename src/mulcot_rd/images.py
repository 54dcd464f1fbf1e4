"""Opening images as they come: the one function through which every pixel enters the project.

Training, soft-label caching, generation and evaluation must see the same pixels, so all of them call
:func:`load_image`.
"""

import base64
import io
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

from PIL import ExifTags, Image

from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import file_fingerprint
from mulcot_rd.progress import progress

# The odd originals of Twitter-2015 include tall screenshots; anything larger than this is a decompression bomb.
MAX_PIXELS = 64_000_000
# What turns an image upright, by its EXIF orientation; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(UserError):
    """An image that is missing, broken or too large; the message names the file and says what is wrong."""


def load_image(source: Path | str | bytes | Image.Image, size: int | None = None) -> Image.Image:
    """Open an image whatever its true format, mode and shape.

    Args:
        source: The file, whose extension is not believed; or what is in it; or an image that Pillow has opened.
        size: Side in pixels of the square that the image is resized to (bicubic), or ``None`` to keep its size.

    Returns:
        An RGB image, upright by its EXIF orientation, transparency laid over white.

    Raises:
        ImageError: If the file is missing, can't be decoded to the end, or has more than ``MAX_PIXELS`` pixels.
    """
    path = Path(source) if isinstance(source, str | Path) else None
    place = path or f"the {'bytes' if isinstance(source, bytes) else 'image'} given"
    try:
        if path is not None and not path.is_file():
            raise ImageError(f"image not found: {path}")
        with warnings.catch_warnings():
            # What Pillow has to say of odd metadata is nothing that a user can act on; broken pixels raise.
            warnings.simplefilter("ignore")
            with _opened(source) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise ImageError(f"image of {opened.width} x {opened.height} pixels is too large: {place}")
                opened.load()
                image = _to_rgb(_upright(opened))
    except ImageError:
        raise
    # Each of Pillow's decoders has errors of its own for broken files: struct.error, KeyError, zlib.error and others.
    except Exception as error:
        raise ImageError(f"image can't be read ({type(error).__name__}): {place}") from error
    return image if size is None else image.resize((size, size), Image.Resampling.BICUBIC)


def _opened(source: Path | str | bytes | Image.Image) -> AbstractContextManager[Image.Image]:
    if isinstance(source, Image.Image):
        return nullcontext(source)
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def image_problems(paths: Iterable[str], description: str) -> dict[str, str | None]:
    """What is wrong with each image, by its path; ``None`` where it can be opened.

    Args:
        paths: The files; each is opened once.
        description: Names the work on the progress bar.
    """
    images = list(dict.fromkeys(paths))
    # Decoding is native code that lets other threads run: two cores are twice as fast as one.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = progress(pool.map(_problem, images), total=len(images), desc=description, unit="image")
        return dict(zip(images, found, strict=True))


def _problem(path: str) -> str | None:
    try:
        load_image(path)
    except ImageError as error:
        return str(error)
    return None


def data_uri(image: Image.Image, quality: int | None = 85) -> str:
    """An image as a data URI, for a page or a request that must need no file beside it.

    Args:
        image: The image.
        quality: Of a JPEG; ``None`` makes a PNG, which keeps every pixel.
    """
    buffer, kind = io.BytesIO(), "png" if quality is None else "jpeg"
    image.save(buffer, kind, **({} if quality is None else {"quality": quality}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def thumbnail_uri(path: Path | str, side: int) -> str:
    """The data URI of an image in its own proportions, made smaller if it is wider or higher than ``side`` pixels.

    Raises:
        ImageError: If the image can't be opened.
    """
    image = load_image(path)
    image.thumbnail((side, side))
    return data_uri(image)


def image_hashes(paths: Iterable[Path | str]) -> dict[str, str]:
    """A hash of each image's bytes, by its path.

    Raises:
        ImageError: If one can't be read.
    """
    try:
        return {path: file_fingerprint(Path(path)) for path in sorted(set(map(str, paths)))}
    except OSError as error:
        raise ImageError(f"image not found: {error.filename}") from error


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; as it is where the EXIF block can't be read."""
    try:
        # Of all EXIF entries only this one is read: a broken one elsewhere says nothing about the pixels.
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = image.convert("F")
        low, high = cast(tuple[float, float], image.getextrema())
        scale = 255 / (high - low) if high > low else 0
        image = image.point(lambda value: value * scale - low * scale).convert("L")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
