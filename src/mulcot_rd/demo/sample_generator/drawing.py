"""Drawing a scene as a small JPEG whose brightness and saturation say which class it belongs to."""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageStat

from mulcot_rd.demo.sample_generator import scenes_negative, scenes_neutral, scenes_positive
from mulcot_rd.demo.sample_generator.canvas import Canvas
from mulcot_rd.schema import Sentiment

# Pixels a side of the finished image.
IMAGE_SIZE = 96
JPEG_QUALITY = 82

SCENES: dict[Sentiment, dict[str, Callable[[Canvas], None]]] = {
    Sentiment.POSITIVE: scenes_positive.SCENES,
    Sentiment.NEUTRAL: scenes_neutral.SCENES,
    Sentiment.NEGATIVE: scenes_negative.SCENES,
}


@dataclass(frozen=True)
class Bounds:
    """Allowed mean brightness (L) and mean saturation (S of HSV), fractions from 0 to 1."""

    brightness: tuple[float, float]
    saturation: tuple[float, float]

    def hold(self, image: Image.Image) -> bool:
        """Whether an image keeps them."""
        brightness, saturation = brightness_and_saturation(image)
        return (
            self.brightness[0] <= brightness <= self.brightness[1]
            and self.saturation[0] <= saturation <= self.saturation[1]
        )


BOUNDS = {
    Sentiment.POSITIVE: Bounds(brightness=(0.62, 1.0), saturation=(0.35, 1.0)),
    Sentiment.NEUTRAL: Bounds(brightness=(0.42, 0.58), saturation=(0.0, 0.25)),
    Sentiment.NEGATIVE: Bounds(brightness=(0.0, 0.35), saturation=(0.0, 0.30)),
}


def brightness_and_saturation(image: Image.Image) -> tuple[float, float]:
    """Mean brightness (L) and mean saturation (S of HSV) of an RGB image, fractions from 0 to 1."""
    brightness = ImageStat.Stat(image.convert("L")).mean[0]
    saturation = ImageStat.Stat(image.convert("HSV")).mean[1]
    return brightness / 255, saturation / 255


def draw_jpeg(polarity: Sentiment, scene: str, rng: random.Random) -> bytes:
    """Draw a scene until it keeps the bounds of its class, as it looks after JPEG.

    Args:
        polarity: The class.
        scene: One of the class's scenes.
        rng: Source of all variation.

    Returns:
        A JPEG file of ``IMAGE_SIZE`` pixels a side.
    """
    while True:
        canvas = Canvas(rng)
        SCENES[polarity][scene](canvas)
        reduced = canvas.image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
        buffer = io.BytesIO()
        reduced.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
        with Image.open(buffer) as encoded:
            if BOUNDS[polarity].hold(encoded):
                return buffer.getvalue()
