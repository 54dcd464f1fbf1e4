"""Bright, warm, saturated pictures."""

from collections.abc import Callable

from mulcot_rd.demo.sample_generator.canvas import SIZE, Canvas

SKY, PALE_SKY = (95, 190, 255), (170, 225, 255)
GRASS, SUN, SAND = (125, 215, 80), (255, 225, 60), (255, 220, 130)
BRIGHT = ((255, 95, 95), (255, 175, 50), (255, 225, 70), (115, 215, 100), (105, 180, 255), (250, 130, 210))


def _sky(canvas: Canvas) -> None:
    canvas.background(canvas.vary(SKY), canvas.vary(PALE_SKY))


def _sun(canvas: Canvas, x: int, y: int, radius: int) -> None:
    canvas.disc(x, y, radius + 8, (255, 238, 140))
    canvas.disc(x, y, radius, SUN)


def sunny_hills(canvas: Canvas) -> None:
    """Sun and white clouds over green hills."""
    _sky(canvas)
    _sun(canvas, canvas.place(30, 160), canvas.place(30, 55), canvas.place(18, 28))
    canvas.cloud(canvas.place(40, 150), canvas.place(50, 80), canvas.place(10, 16), (255, 255, 255))
    canvas.disc(canvas.place(20, 70), 250, canvas.place(115, 130), canvas.vary((140, 220, 90)))
    canvas.disc(canvas.place(120, 180), 270, canvas.place(115, 130), canvas.vary(GRASS))


def flower_meadow(canvas: Canvas) -> None:
    """Flowers in a meadow."""
    _sky(canvas)
    canvas.box(0, canvas.place(80, 100), SIZE, SIZE, canvas.vary((145, 225, 100)))
    for column in range(22, SIZE, 36):
        x, y, petal = column + canvas.place(-8, 8), canvas.place(70, 140), canvas.rng.choice(BRIGHT[:3] + BRIGHT[5:])
        canvas.line([(x, y), (x, y + 45)], 4, (70, 170, 70))
        for dx, dy in ((-9, 0), (9, 0), (0, -9), (0, 9)):
            canvas.disc(x + dx, y + dy, 9, petal)
        canvas.disc(x, y, 7, (255, 245, 150))


def smiling_face(canvas: Canvas) -> None:
    """A round yellow face that smiles."""
    canvas.background(canvas.vary((255, 200, 120)), canvas.vary((255, 225, 160)))
    x, y, radius = canvas.place(85, 107), canvas.place(85, 107), canvas.place(58, 74)
    canvas.disc(x, y, radius, canvas.vary((255, 222, 70)))
    for side in (-1, 1):
        canvas.disc(x + side * radius * 2 // 5, y - radius // 4, radius // 8, (90, 60, 20))
    mouth = radius * 3 // 5
    canvas.draw.chord((x - mouth, y - mouth + 8, x + mouth, y + mouth + 8), 0, 180, fill=(190, 60, 50))


def balloons(canvas: Canvas) -> None:
    """Coloured balloons in a blue sky."""
    _sky(canvas)
    for column in range(30, SIZE, 33):
        x, y, radius = column + canvas.place(-7, 7), canvas.place(35, 110), canvas.place(16, 21)
        canvas.line([(x, y), (x + canvas.place(-8, 8), y + 70)], 2, (240, 250, 255))
        colour = canvas.vary(canvas.rng.choice(BRIGHT[:4] + BRIGHT[5:]))
        canvas.draw.ellipse((x - radius, y - radius, x + radius, y + radius * 5 // 4), fill=colour)
        canvas.disc(x - radius // 3, y - radius // 3, 4, (255, 255, 255))


def beach(canvas: Canvas) -> None:
    """A parasol on a beach by the sea."""
    _sky(canvas)
    horizon = canvas.place(80, 95)
    canvas.box(0, horizon, SIZE, 30, canvas.vary((70, 190, 225)))
    canvas.box(0, horizon + 30, SIZE, SIZE, canvas.vary(SAND))
    _sun(canvas, canvas.place(25, 70), canvas.place(25, 45), canvas.place(14, 22))
    x, y, radius = canvas.place(110, 145), canvas.place(95, 110), canvas.place(34, 44)
    canvas.line([(x, y), (x, y + 65)], 5, (235, 235, 230))
    colour = canvas.rng.choice(BRIGHT)
    for start in range(180, 360, 45):
        fill = colour if start % 90 else (255, 255, 240)
        canvas.draw.pieslice((x - radius, y - radius, x + radius, y + radius), start, start + 45, fill=fill)


def rainbow(canvas: Canvas) -> None:
    """A rainbow over a meadow."""
    _sky(canvas)
    x, y, radius = canvas.place(70, 120), canvas.place(135, 150), canvas.place(95, 115)
    for colour in (*BRIGHT, canvas.vary(PALE_SKY)):
        canvas.disc(x, y, radius, colour)
        radius -= 9
    canvas.box(0, canvas.place(130, 145), SIZE, SIZE, canvas.vary(GRASS))


def birthday_cake(canvas: Canvas) -> None:
    """A cake with candles."""
    canvas.background(canvas.vary((255, 215, 130)), canvas.vary((255, 235, 170)))
    top, left = canvas.place(90, 105), canvas.place(32, 46)
    width = SIZE - 2 * left
    canvas.box(left, top, width, 62, canvas.vary((255, 150, 190)))
    canvas.box(left, top, width, 14, (255, 245, 240))
    canvas.box(left, top + 36, width, 8, canvas.vary((255, 215, 90)))
    for x in range(left + 14, left + width - 6, canvas.place(17, 24)):
        canvas.box(x, top - 26, 5, 26, canvas.rng.choice(BRIGHT))
        canvas.disc(x + 2, top - 33, 6, (255, 170, 40))
    canvas.box(0, top + 63, SIZE, SIZE, canvas.vary((150, 220, 235)))


def gift_box(canvas: Canvas) -> None:
    """A wrapped gift among confetti."""
    canvas.background(canvas.vary((255, 205, 215)), canvas.vary((255, 225, 150)))
    for _ in range(40):
        canvas.disc(canvas.place(0, SIZE), canvas.place(0, SIZE), canvas.place(3, 5), canvas.rng.choice(BRIGHT))
    side, left, top = canvas.place(76, 96), canvas.place(40, 66), canvas.place(76, 90)
    paper, ribbon = canvas.rng.sample(BRIGHT[1:], 2)
    canvas.box(left, top, side, side, canvas.vary(paper))
    canvas.box(left + side // 2 - 7, top, 14, side, ribbon)
    for sign in (-1, 1):
        canvas.disc(left + side // 2 + sign * 16, top - 12, 15, ribbon)
        canvas.disc(left + side // 2 + sign * 16, top - 12, 6, paper)


SCENES: dict[str, Callable[[Canvas], None]] = {
    scene.__name__: scene
    for scene in (sunny_hills, flower_meadow, smiling_face, balloons, beach, rainbow, birthday_cake, gift_box)
}
