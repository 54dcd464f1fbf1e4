"""Captions by rule, for runs without a server: what can be measured on the pixels, in words, and nothing else.

No object is recognised. A text-only model that reads such captions learns from light, colours and layout alone.
"""

import colorsys
from collections import Counter
from typing import Any

from PIL import Image, ImageFilter, ImageStat

from mulcot_rd.demo.image_evidence import measure_image
from mulcot_rd.images import load_image

SIDE = 48  # pixels: what is measured here are areas, which a thumbnail keeps

# Upper ends of hue ranges on the colour circle, in degrees.
HUES = ((15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (195, "turquoise"), (255, "blue"), (330, "purple"))
GREY_SATURATION, BLACK_VALUE, WHITE_VALUE = 0.15, 0.2, 0.85
MAIN_SHARE, SOME_SHARE = 0.2, 0.08
# Mean of the edge filter, 0 to 255.
FEW_EDGES, MANY_EDGES = 12.0, 35.0
WIDE, TALL = 1.2, 1 / 1.2
# Difference of mean luminance between two halves, as a share of 255.
LIGHTER = 0.08


def describe_image(path: str) -> str:
    """Format, light, colours, contrast, layout and amount of detail of an image, in two or three sentences.

    Raises:
        ImageError: If the file is missing or broken; the message names it.
    """
    picture = load_image(path)
    small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    sentences = [
        f"A {_format(picture.width / picture.height)} picture that is {measure_image(path).look}.",
        f"{_colours(small)}, with {_detail(small)}.",
    ]
    layout = _layout(small)
    return " ".join([*sentences, layout] if layout else sentences)


def _format(ratio: float) -> str:
    return "wide" if ratio >= WIDE else "tall" if ratio <= TALL else "square"


def _colours(image: Image.Image) -> str:
    counts: Counter[str] = Counter()
    pixels: Any = image.getcolors(SIDE**2)
    for count, pixel in pixels:
        counts[_name(*pixel)] += count
    shares = [(name, count / SIDE**2) for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    main = [name for name, share in shares if share >= MAIN_SHARE][:3] or [shares[0][0]]
    some = [name for name, share in shares if share >= SOME_SHARE and name not in main][:2]
    said = f"It is mostly {' and '.join(main)}"
    return f"{said} with some {' and '.join(some)}" if some else said


def _name(red: int, green: int, blue: int) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value <= BLACK_VALUE:
        return "black"
    if saturation <= GREY_SATURATION:
        return "white" if value >= WHITE_VALUE else "grey"
    name = next((name for end, name in HUES if 360 * hue < end), "red")
    return "brown" if name == "orange" and value < 0.6 else name


def _detail(image: Image.Image) -> str:
    # The filter's border is the image itself, which is no edge.
    edges = image.convert("L").filter(ImageFilter.FIND_EDGES).crop((1, 1, SIDE - 1, SIDE - 1))
    mean = ImageStat.Stat(edges).mean[0]
    return "large plain areas" if mean <= FEW_EDGES else "many fine shapes" if mean >= MANY_EDGES else "a few shapes"


def _layout(image: Image.Image) -> str:
    """Where it is lighter, or nothing where no half differs clearly from the other."""
    light = image.convert("L")
    half = SIDE // 2

    def mean(box: tuple[int, int, int, int]) -> float:
        return ImageStat.Stat(light.crop(box)).mean[0] / 255

    down = mean((0, 0, SIDE, half)) - mean((0, half, SIDE, SIDE))
    across = mean((0, 0, half, SIDE)) - mean((half, 0, SIDE, SIDE))
    inner = (SIDE // 4, SIDE // 4, SIDE - SIDE // 4, SIDE - SIDE // 4)
    centre = mean(inner) - mean((0, 0, SIDE, SIDE))
    strongest = max((down, across, centre), key=abs)
    if abs(strongest) < LIGHTER:
        return ""
    place = {down: ("upper", "lower"), across: ("left", "right"), centre: ("middle", "outer")}[strongest]
    return f"The {place[0] if strongest > 0 else place[1]} part is the lighter one."
