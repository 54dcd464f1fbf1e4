"""The case study of Figure 4 as a picture: post, image, reasoning and verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mulcot_rd.images import load_image
from mulcot_rd.reasoning import SECTION_KEYS
from mulcot_rd.reporting.typesetting import drawable, shorten, text_width, wrap
from mulcot_rd.schema import Post, PredictionRecord, Sentiment, TeacherRecord

Case = tuple[Post, PredictionRecord, TeacherRecord | None]

# All lengths are in points, 72 an inch.
WIDTH = 1000.0
MARGIN = 20.0
IMAGE_SIDE = 230.0
GAP = 18.0
SIZE = 10.0
LEADING = 14.5
PARAGRAPH_GAP = 4.0
MOST_LINES = 6

INK, GREY, FRAME = "#1c1c1e", "#6b6b70", "#d5d5da"
RIGHT, WRONG = "#1a7f37", "#c42b1c"


@dataclass(frozen=True)
class _Line:
    """One line of text: its words in bold, then the rest of it, in one colour."""

    head: str
    text: str
    colour: str = INK
    style: str = "normal"
    space_above: float = 0.0


def case_study(cases: Sequence[Case], run: str, source: str) -> Figure:
    """Draw a few posts with what a model wrote of them (paper, Figure 4).

    Args:
        cases: For each post (three read well) the post, the model's answers, and the teacher's if there are any.
        run: Name of the run and, if there may be doubt, of the model; goes into the title.
        source: How the model's figures are named (:func:`~mulcot_rd.reporting.tables.source_of`), for the title.

    Returns:
        A figure that needs no display; save it at 150 dpi.

    Raises:
        ValueError: If there are no cases, or a record belongs to another post.
        ImageError: If an image can't be opened.
    """
    if len(cases) == 0:
        raise ValueError("a case study needs at least one post: give some of the test split")
    for post, *records in cases:
        for record in records:
            if record is not None and record.id != post.id:
                raise ValueError(f"case study: the record of post {record.id} was given for post {post.id}")
    blocks = [_lines(*case) for case in cases]
    heights = [max(IMAGE_SIDE, _height(lines)) + 2 * GAP for lines in blocks]
    title = wrap(drawable(f"{run}: {source}"), WIDTH - 2 * MARGIN, 13, "bold")
    top = MARGIN + 18 * len(title) + 8
    total = top + sum(heights) + GAP * (len(cases) - 1) + MARGIN
    figure = Figure(figsize=(WIDTH / 72, total / 72), facecolor="white")
    FigureCanvasAgg(figure)
    for number, line in enumerate(title):
        _write(figure, MARGIN, MARGIN + 18 * number, line, 13, INK, weight="bold")
    for (post, _, _), lines, height in zip(cases, blocks, heights, strict=True):
        _draw_case(figure, post, lines, top, height)
        top += height + GAP
    return figure


def _lines(post: Post, answer: PredictionRecord, teacher: TeacherRecord | None) -> list[_Line]:
    """Everything that is written beside the image."""
    lines = _paragraph("Text: ", post.text)
    if post.aspect is not None:
        lines += _paragraph("Aspect: ", post.aspect, gap=0.0)
    sections = (answer.text_analysis, answer.image_analysis, answer.conflict_resolution, answer.final_conclusion)
    for key, text in zip(SECTION_KEYS, sections, strict=True):
        lines += _paragraph(f"{key}: ", text or "(not written)", colour=INK if text else GREY)
    lines += _paragraph("Gold label: ", post.label.value)
    lines += _verdict("Label prompt: ", answer.prediction, post.label)
    lines += _verdict("Reasoning: ", answer.reasoning_prediction, post.label)
    if teacher is not None:
        told = "" if teacher.stage == 1 else " (was told the label)"
        lines += _verdict(f"Teacher{told}: ", teacher.prediction, post.label)
        lines += _paragraph("Teacher's conclusion: ", teacher.final_conclusion, colour=GREY, style="italic", gap=0.0)
    return lines


def _paragraph(
    head: str, text: str, *, colour: str = INK, style: str = "normal", gap: float = PARAGRAPH_GAP
) -> list[_Line]:
    width = WIDTH - 2 * MARGIN - IMAGE_SIDE - 3 * GAP
    # The bold head takes its width from the first line alone.
    indent = _head_width(head)
    text = drawable(text)
    first = wrap(text, width - indent, SIZE, style=style)[0]
    rest = text[len(first) :].strip()
    wrapped = shorten([first, *(wrap(rest, width, SIZE, style=style) if rest else [])], MOST_LINES)
    return [
        _Line(head if number == 0 else "", line, colour, style, gap if number == 0 else 0.0)
        for number, line in enumerate(wrapped)
    ]


def _head_width(head: str) -> float:
    return text_width(head.rstrip(), SIZE, "bold") + 0.5 * SIZE


def _verdict(head: str, prediction: Sentiment | None, label: Sentiment) -> list[_Line]:
    if prediction is None:
        return _paragraph(head, "no readable label ✗ wrong", colour=WRONG, gap=0.0)
    right = prediction == label
    words = f"{prediction.value} {'✓ right' if right else '✗ wrong'}"
    return _paragraph(head, words, colour=RIGHT if right else WRONG, gap=0.0)


def _height(lines: list[_Line]) -> float:
    return sum(LEADING + line.space_above for line in lines)


def _draw_case(figure: Figure, post: Post, lines: list[_Line], top: float, height: float) -> None:
    """One framed row: the image on the left, the text on the right."""
    total_width, total_height = (inches * 72 for inches in figure.get_size_inches())
    figure.add_artist(
        Rectangle(
            (MARGIN / total_width, 1 - (top + height) / total_height),
            1 - 2 * MARGIN / total_width,
            height / total_height,
            transform=figure.transFigure,
            fill=False,
            edgecolor=FRAME,
        )
    )
    left, image_top = MARGIN + GAP, top + GAP
    bottom = 1 - (image_top + IMAGE_SIDE) / total_height
    axes = figure.add_axes((left / total_width, bottom, IMAGE_SIDE / total_width, IMAGE_SIDE / total_height))
    axes.imshow(load_image(post.image))
    axes.set_anchor("N")
    axes.set_axis_off()
    left += IMAGE_SIDE + GAP
    y = image_top
    for line in lines:
        y += line.space_above
        indent = 0.0
        if line.head:
            _write(figure, left, y, line.head.rstrip(), SIZE, INK, weight="bold")
            indent = _head_width(line.head)
        _write(figure, left + indent, y, line.text, SIZE, line.colour, style=line.style)
        y += LEADING


def _write(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str,
    *,
    weight: str = "normal",
    style: str = "normal",
) -> None:
    """One line, its top left corner ``x`` and ``y`` points from the figure's; dollar signs are no mathematics."""
    width, height = (inches * 72 for inches in figure.get_size_inches())
    figure.text(
        x / width,
        1 - (y + size) / height,
        text,
        fontsize=size,
        color=colour,
        family="DejaVu Sans",
        fontweight=weight,
        fontstyle=style,
        va="baseline",
        parse_math=False,
    )
