"""What every scene is drawn with: a canvas twice the final size, and colours and places that vary a little."""

import random

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
# Pixels; scenes are drawn at this size and reduced to half of it, which smooths their edges.
SIZE = 192


class Canvas:
    """A square picture of ``SIZE`` pixels a side and the random source of its variation."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.image = Image.new("RGB", (SIZE, SIZE))
        self.draw = ImageDraw.Draw(self.image)

    def vary(self, colour: Colour, by: int = 12) -> Colour:
        """The colour, a little lighter or darker and each channel shifted a little less."""
        shift = self.rng.randint(-by, by)
        red, green, blue = (
            max(0, min(255, channel + shift + self.rng.randint(-by // 3, by // 3))) for channel in colour
        )
        return red, green, blue

    def place(self, low: int, high: int) -> int:
        """A random coordinate or length in pixels."""
        return self.rng.randint(low, high)

    def background(self, top: Colour, bottom: Colour) -> None:
        """Fill the canvas with a vertical gradient."""
        for y in range(SIZE):
            share = y / (SIZE - 1)
            red, green, blue = (round(t + (b - t) * share) for t, b in zip(top, bottom, strict=True))
            self.draw.line((0, y, SIZE, y), fill=(red, green, blue))

    def disc(self, x: int, y: int, radius: int, colour: Colour) -> None:
        """A filled circle around (x, y)."""
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def box(self, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        """A filled rectangle with its upper left corner at (x, y)."""
        self.draw.rectangle((x, y, x + width, y + height), fill=colour)

    def line(self, points: list[tuple[int, int]], width: int, colour: Colour) -> None:
        """A line through the points."""
        self.draw.line(points, fill=colour, width=width, joint="curve")

    def cloud(self, x: int, y: int, radius: int, colour: Colour) -> None:
        """A cloud of four discs around (x, y)."""
        self.disc(x - radius, y + radius // 3, radius * 2 // 3, colour)
        self.disc(x, y, radius, colour)
        self.disc(x + radius, y + radius // 3, radius * 3 // 4, colour)
        self.box(x - radius, y + radius // 3, 2 * radius, radius * 2 // 3, colour)
