"""Plain pictures of middling grey, of things nobody has feelings about."""

from collections.abc import Callable

from mulcot_rd.demo.sample_generator.canvas import SIZE, Canvas

WALL, FLOOR, LIGHT, DARK = (138, 138, 135), (122, 120, 116), (186, 186, 182), (76, 76, 76)
WOOD, INK = (132, 122, 108), (92, 92, 94)


def _room(canvas: Canvas) -> int:
    """A wall and a floor; returns where they meet."""
    canvas.background(canvas.vary(WALL), canvas.vary(WALL))
    edge = canvas.place(125, 145)
    canvas.box(0, edge, SIZE, SIZE, canvas.vary(FLOOR))
    return edge


def office_building(canvas: Canvas) -> None:
    """An office building with rows of windows."""
    canvas.background(canvas.vary((150, 152, 154)), canvas.vary((150, 152, 154)))
    left, top, width = canvas.place(30, 60), canvas.place(20, 45), canvas.place(85, 105)
    canvas.box(left, top, width, SIZE, canvas.vary((128, 127, 124)))
    step = canvas.place(22, 27)
    for y in range(top + 10, 150, 24):
        for x in range(left + 8, left + width - 14, step):
            canvas.box(x, y, 13, 14, canvas.vary((104, 107, 110), 6))
    canvas.box(0, 170, SIZE, SIZE, canvas.vary((116, 116, 116)))


def table(canvas: Canvas) -> None:
    """A table with two chairs."""
    edge = _room(canvas)
    left, top, wood = canvas.place(42, 52), edge - canvas.place(34, 44), canvas.vary(WOOD)
    width = SIZE - 2 * left
    for x in (left - 26, left + width + 20):
        canvas.box(x, top - 26, 7, 90, INK)
        canvas.box(x - (12 if x > SIZE // 2 else 0), top + 26, 20, 7, INK)
    canvas.box(left, top, width, 10, wood)
    for x in (left + 6, left + width - 14):
        canvas.box(x, top + 10, 8, 62, wood)


def document(canvas: Canvas) -> None:
    """A printed page on a desk."""
    canvas.background(canvas.vary((112, 108, 102)), canvas.vary((112, 108, 102)))
    left, top = canvas.place(42, 62), canvas.place(18, 32)
    canvas.box(left, top, 86, 132, canvas.vary(LIGHT))
    canvas.box(left + 10, top + 10, canvas.place(35, 60), 9, INK)
    for y in range(top + 30, top + 122, canvas.place(10, 13)):
        canvas.box(left + 10, y, canvas.place(40, 66), 4, (128, 128, 130))


def wall_clock(canvas: Canvas) -> None:
    """A clock on a wall."""
    canvas.background(canvas.vary(WALL), canvas.vary(FLOOR))
    x, y, radius = canvas.place(80, 112), canvas.place(80, 112), canvas.place(50, 64)
    canvas.disc(x, y, radius, DARK)
    canvas.disc(x, y, radius - 6, canvas.vary((172, 172, 169), 8))
    for dx, dy in ((0, -1), (1, 0), (0, 1), (-1, 0)):
        canvas.disc(x + dx * (radius - 14), y + dy * (radius - 14), 4, DARK)
    canvas.line([(x, y), (x + canvas.place(-24, 24), y - radius // 2)], 6, DARK)
    canvas.line([(x, y), (x + radius // 2, y + canvas.place(-24, 24))], 4, DARK)


def road(canvas: Canvas) -> None:
    """A road that runs to the horizon."""
    canvas.background(canvas.vary((158, 160, 162)), canvas.vary((158, 160, 162)))
    horizon, x = canvas.place(70, 90), canvas.place(80, 112)
    canvas.box(0, horizon, SIZE, SIZE, canvas.vary((128, 130, 120)))
    canvas.draw.polygon([(x - 8, horizon), (x + 8, horizon), (190, SIZE), (4, SIZE)], fill=canvas.vary((100, 100, 102)))
    for share in (0.1, 0.3, 0.55, 0.8):
        y = round(horizon + (SIZE - horizon) * share)
        canvas.box(x - 2, y, 5, 6 + round(14 * share), LIGHT)


def bookshelf(canvas: Canvas) -> None:
    """A shelf of books."""
    canvas.background(canvas.vary(WALL), canvas.vary(WALL))
    for bottom in (66, 126, 186):
        x = canvas.place(4, 12)
        while x < SIZE - 14:
            width, height = canvas.place(9, 17), canvas.place(30, 44)
            shade = canvas.rng.choice(((98, 96, 94), (150, 146, 140), (122, 124, 128), (166, 164, 160)))
            canvas.box(x, bottom - height, width, height, canvas.vary(shade))
            x += width + canvas.place(2, 8)
        canvas.box(0, bottom, SIZE, 6, canvas.vary((104, 98, 90), 6))


def cardboard_box(canvas: Canvas) -> None:
    """A closed cardboard box on the floor."""
    _room(canvas)
    left, top = canvas.place(40, 62), canvas.place(76, 90)
    width, height = canvas.place(70, 92), canvas.place(58, 74)
    canvas.box(left, top, width, height, canvas.vary((148, 136, 120), 8))
    corners = [(left, top), (left + 20, top - 20), (left + width + 20, top - 20), (left + width, top)]
    canvas.draw.polygon(corners, fill=canvas.vary((164, 154, 138), 8))
    flank = [corners[3], corners[2], (left + width + 20, top + height - 20), (left + width, top + height)]
    canvas.draw.polygon(flank, fill=(116, 108, 96))
    canvas.box(left + width // 2 - 6, top, 12, height // 3, (176, 170, 160))


def street_map(canvas: Canvas) -> None:
    """A map of streets with a pin."""
    canvas.background(canvas.vary((142, 144, 138)), canvas.vary((142, 144, 138)))
    for _ in range(3):
        x, y = canvas.place(0, 140), canvas.place(0, 140)
        canvas.box(x, y, canvas.place(24, 46), canvas.place(24, 46), canvas.vary((120, 126, 116), 8))
    for _ in range(4):
        canvas.line([(0, canvas.place(0, SIZE)), (SIZE, canvas.place(0, SIZE))], canvas.place(4, 8), (178, 178, 174))
        canvas.line([(canvas.place(0, SIZE), 0), (canvas.place(0, SIZE), SIZE)], canvas.place(4, 8), (178, 178, 174))
    x, y = canvas.place(50, 140), canvas.place(40, 110)
    canvas.draw.polygon([(x - 12, y + 6), (x + 12, y + 6), (x, y + 34)], fill=DARK)
    canvas.disc(x, y, 14, DARK)
    canvas.disc(x, y, 5, LIGHT)


SCENES: dict[str, Callable[[Canvas], None]] = {
    scene.__name__: scene
    for scene in (office_building, table, document, wall_clock, road, bookshelf, cardboard_box, street_map)
}
