"""What the offline annotator sees in an image: four facts measured on its pixels, and where they lean."""

from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageStat

from mulcot_rd.images import load_image
from mulcot_rd.schema import Sentiment

THUMBNAIL = 64  # pixels a side: the facts are averages, which a thumbnail keeps

BRIGHT, DARK = 0.60, 0.37
SATURATED, GREY = 0.33, 0.32
WARM, COOL = 0.05, -0.05
HIGH_CONTRAST, LOW_CONTRAST = 0.25, 0.15


@dataclass(frozen=True)
class ImageFacts:
    """Averages over the image.

    Attributes:
        brightness: Mean luminance L / 255, 0 to 1.
        saturation: Mean HSV saturation S / 255, 0 to 1.
        warmth: (mean red - mean blue) / 255, -1 to 1.
        contrast: Standard deviation of L / 255, 0 to 0.5.
    """

    brightness: float
    saturation: float
    warmth: float
    contrast: float

    @property
    def lean(self) -> Sentiment:
        """Bright and saturated leans positive, dark and grey negative, anything else neutral."""
        if self.brightness >= BRIGHT and self.saturation >= SATURATED:
            return Sentiment.POSITIVE
        if self.brightness <= DARK and self.saturation <= GREY:
            return Sentiment.NEGATIVE
        return Sentiment.NEUTRAL

    @property
    def look(self) -> str:
        """The facts in words, as what follows "the image is"."""
        if self.lean is Sentiment.NEGATIVE:
            return f"dark and grey, with {self._contrast} contrast"
        light = "bright" if self.brightness >= BRIGHT else "dark" if self.brightness <= DARK else "evenly lit"
        strength = "strong" if self.saturation >= SATURATED else "pale"
        tone = " warm" if self.warmth >= WARM else " cool" if self.warmth <= COOL else ""
        return f"{light}, with {strength}{tone} colours and {self._contrast} contrast"

    @property
    def _contrast(self) -> str:
        return "high" if self.contrast >= HIGH_CONTRAST else "low" if self.contrast <= LOW_CONTRAST else "medium"


@lru_cache(maxsize=65536)
def measure_image(path: str) -> ImageFacts:
    """Measure an image file, once per path.

    Raises:
        ImageError: If the file is missing or broken; the message names it.
    """
    image = load_image(path, THUMBNAIL)
    red, _, blue = ImageStat.Stat(image).mean
    luminance = ImageStat.Stat(image.convert("L"))
    return ImageFacts(
        brightness=luminance.mean[0] / 255,
        saturation=ImageStat.Stat(image.convert("HSV")).mean[1] / 255,
        warmth=(red - blue) / 255,
        contrast=luminance.stddev[0] / 255,
    )
