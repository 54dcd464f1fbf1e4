"""Dark, grey pictures."""

from collections.abc import Callable

from mulcot_rd.demo.sample_generator.canvas import SIZE, Canvas

NIGHT, DUSK, GROUND = (48, 50, 55), (78, 80, 85), (52, 52, 52)
CLOUD, PALE = (104, 106, 110), (165, 167, 170)


def _gloom(canvas: Canvas) -> None:
    canvas.background(canvas.vary(NIGHT), canvas.vary(DUSK))


def rain(canvas: Canvas) -> None:
    """Rain that falls from grey clouds."""
    _gloom(canvas)
    slant = canvas.place(-14, 14)
    for _ in range(canvas.place(35, 55)):
        x, y = canvas.place(0, SIZE), canvas.place(55, SIZE)
        canvas.line([(x, y), (x + slant, y + 24)], 3, (140, 144, 150))
    for x in (canvas.place(25, 55), canvas.place(85, 110), canvas.place(140, 170)):
        canvas.cloud(x, canvas.place(30, 50), canvas.place(22, 30), canvas.vary(CLOUD))


def lightning(canvas: Canvas) -> None:
    """A storm cloud with a flash of lightning."""
    _gloom(canvas)
    x = canvas.place(70, 120)
    points = [(x, 60), (x - 22, 112), (x, 108), (x - 18, 165), (x + 30, 95), (x + 8, 98), (x + 24, 60)]
    canvas.draw.polygon(points, fill=(222, 222, 205))
    canvas.cloud(x - 25, canvas.place(38, 48), canvas.place(30, 36), canvas.vary(CLOUD))
    canvas.cloud(x + 35, canvas.place(38, 52), canvas.place(24, 32), canvas.vary((88, 90, 94)))
    canvas.box(0, 172, SIZE, 20, canvas.vary(GROUND))


def night_street(canvas: Canvas) -> None:
    """Dark houses at night under a small moon."""
    canvas.background(canvas.vary(NIGHT), canvas.vary((64, 66, 72)))
    canvas.disc(canvas.place(25, 165), canvas.place(18, 30), canvas.place(9, 13), (200, 200, 195))
    x = -8
    while x < SIZE:
        width, height = canvas.place(36, 56), canvas.place(70, 130)
        canvas.box(x, SIZE - height, width, height, canvas.vary((38, 39, 42), 6))
        for wy in range(SIZE - height + 12, SIZE - 16, 26):
            for wx in (x + 8, x + width - 16):
                canvas.box(wx, wy, 9, 12, canvas.rng.choice(((60, 61, 64), (60, 61, 64), (128, 122, 105))))
        x += width + 4


def frowning_face(canvas: Canvas) -> None:
    """A round grey face that frowns."""
    _gloom(canvas)
    x, y, radius = canvas.place(85, 107), canvas.place(85, 107), canvas.place(58, 72)
    canvas.disc(x, y, radius, canvas.vary((118, 119, 122)))
    for side in (-1, 1):
        eye = x + side * radius * 2 // 5
        canvas.disc(eye, y - radius // 5, radius // 8, (40, 40, 42))
        canvas.line([(eye - side * 12, y - radius // 2 + 8), (eye + side * 12, y - radius // 2 + 16)], 5, (40, 40, 42))
    mouth = radius // 2
    canvas.draw.arc((x - mouth, y + radius // 4, x + mouth, y + radius // 4 + mouth * 2), 200, 340, (40, 40, 42), 7)


def broken_window(canvas: Canvas) -> None:
    """A window with cracked panes."""
    canvas.background(canvas.vary((66, 66, 67)), canvas.vary((58, 58, 60)))
    left, top = canvas.place(24, 38), canvas.place(18, 32)
    side = SIZE - 2 * left
    canvas.box(left, top, side, side, (124, 125, 127))
    for column in (0, 1):
        for row in (0, 1):
            half = side // 2
            canvas.box(left + 7 + column * half, top + 7 + row * half, half - 14, half - 14, canvas.vary((46, 48, 52)))
    x, y = left + canvas.place(25, side - 25), top + canvas.place(25, side - 25)
    for dx, dy in ((-60, -30), (-20, -58), (40, -44), (62, 12), (22, 58), (-36, 50), (-62, 14)):
        bend = (x + dx // 2 + canvas.place(-6, 6), y + dy // 2 + canvas.place(-6, 6))
        canvas.line([(x, y), bend, (x + dx, y + dy)], 3, PALE)
    canvas.disc(x, y, canvas.place(8, 13), (24, 24, 26))


def bare_tree(canvas: Canvas) -> None:
    """A tree without leaves on dark ground."""
    canvas.background(canvas.vary((86, 88, 92)), canvas.vary((112, 113, 115)))
    canvas.box(0, canvas.place(148, 162), SIZE, SIZE, canvas.vary((44, 44, 44)))
    x = canvas.place(75, 117)
    canvas.line([(x, 165), (x, 70)], 11, (32, 31, 31))
    for y in (62, 80, 98, 116):
        for side in (-1, 1):
            reach = canvas.place(28, 58)
            tip = (x + side * reach, y - canvas.place(18, 40))
            middle = (x + side * reach // 2, y - 8)
            canvas.line([(x, y + 10), middle, tip], 5, (32, 31, 31))
            canvas.line([middle, (middle[0] + side * 8, middle[1] - 26)], 3, (32, 31, 31))


def broken_cup(canvas: Canvas) -> None:
    """A cup in pieces on the floor, its coffee spilled."""
    canvas.background(canvas.vary((64, 64, 65)), canvas.vary((78, 78, 78)))
    x, y = canvas.place(55, 85), canvas.place(80, 100)
    canvas.draw.ellipse((x - 25, y + 42, x + 105, y + 78), fill=(34, 31, 30))
    cup = canvas.vary((142, 142, 144))
    zigzag = [(x + 58, y), (x + 46, y + 16), (x + 60, y + 28), (x + 44, y + 44), (x + 52, y + 58)]
    canvas.draw.polygon([(x, y), *zigzag, (x + 12, y + 58)], fill=cup)
    canvas.draw.arc((x - 24, y + 10, x + 10, y + 44), 80, 280, cup, 6)
    for _ in range(canvas.place(3, 5)):
        px, py = x + canvas.place(66, 95), y + canvas.place(25, 70)
        canvas.draw.polygon([(px, py), (px + 16, py + 5), (px + 5, py + 16)], fill=cup)


def wilted_flower(canvas: Canvas) -> None:
    """A flower that hangs its head, its petals fallen."""
    _gloom(canvas)
    x, side = canvas.place(80, 112), canvas.rng.choice((-1, 1))
    reach = side * canvas.place(34, 46)
    canvas.line([(x, 150), (x, 80), (x + reach // 2, 56), (x + reach, 84)], 5, (36, 38, 36))
    petal = canvas.vary((128, 124, 124))
    for dx, dy in ((-12, 8), (0, 18), (12, 8)):
        canvas.disc(x + reach + dx, 92 + dy, 9, petal)
    canvas.disc(x + reach, 94, 9, (58, 56, 54))
    for _ in range(4):
        px = x + reach + canvas.place(-36, 36)
        canvas.draw.ellipse((px - 8, 166, px + 8, 174), fill=petal)
    canvas.draw.polygon([(x - 26, 146), (x + 26, 146), (x + 18, 186), (x - 18, 186)], fill=canvas.vary((98, 96, 95)))


SCENES: dict[str, Callable[[Canvas], None]] = {
    scene.__name__: scene
    for scene in (rain, lightning, night_street, frowning_face, broken_window, bare_tree, broken_cup, wilted_flower)
}
