import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from mulcot_rd.reporting.case_study import case_study
from mulcot_rd.reporting.figures import training_curves
from mulcot_rd.reporting.tables import source_of
from mulcot_rd.reporting.typesetting import drawable, shorten, text_width, wrap
from mulcot_rd.schema import Post, Sentiment

NEG, NEU, POS = Sentiment

pytestmark = pytest.mark.usefixtures("no_warnings")


@pytest.fixture
def post(tmp_path):
    Image.new("RGB", (120, 300), "teal").save(tmp_path / "image.jpg")
    return Post(id="1", split="test", text="a day", aspect="day", image=str(tmp_path / "image.jpg"), label=POS)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def inside(figure) -> bool:
    """Whether every text and image lies within the figure, and no two lines of text overlap."""
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    boxes_overlap = any(
        one.x0 < other.x1 - 1 and other.x0 < one.x1 - 1 and one.y0 < other.y1 - 1 and other.y0 < one.y1 - 1
        for number, one in enumerate(boxes)
        for other in boxes[number + 1 :]
    )
    whole = figure.bbox
    return not boxes_overlap and all(
        whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes
    )


def test_verdicts_are_in_words_and_the_title_names_run_and_scale(post, make_prediction, make_teacher):
    figure = case_study(
        [
            (post, make_prediction(post, POS), make_teacher(post, POS)),
            (post, make_prediction(post, NEG, reasoning_prediction=None), make_teacher(post, POS, stage=2)),
        ],
        "arch4-tiny-full",
        source_of("tiny"),
    )
    written = texts(figure)
    assert written[0] == "arch4-tiny-full: measured (tiny model, random initial weights)"
    assert written.count("positive ✓ right") == 4
    assert "negative ✗ wrong" in written
    assert "no readable label ✗ wrong" in written
    assert "Teacher (was told the label):" in written
    assert inside(figure)
    assert pyplot.get_fignums() == []


def test_texts_of_any_kind_stay_inside_their_frame(post, make_prediction, tmp_path):
    wild = post.model_copy(
        update={"text": "$T$ costs $5 \\frac{x}{ _ ^ 😀👍🏽❤️ 日本語 \x00 " + "x" * 400, "aspect": "a" * 200}
    )
    answer = make_prediction(wild, None, text_analysis="the " * 500, image_analysis="", final_conclusion="$\\bad")
    figure = case_study([(wild, answer, None)], "r" * 200, source_of("full"))
    assert inside(figure)
    assert "(not written)" in texts(figure)
    assert any(line.endswith("…") for line in texts(figure))
    figure.savefig(tmp_path / "case.png", dpi=60)


def test_faults(post, make_prediction):
    with pytest.raises(ValueError, match="at least one post"):
        case_study([], "r", "tiny")
    other = make_prediction(post, POS).model_copy(update={"id": "2"})
    with pytest.raises(ValueError, match="record of post 2 was given for post 1"):
        case_study([(post, other, None)], "r", "tiny")


def test_real_posts(twitter2015, make_prediction, tmp_path):
    posts = [post for post in twitter2015 if post.split == "test"][:3]
    figure = case_study(
        [(post, make_prediction(post, NEU), None) for post in posts], "arch4-tiny-full", source_of("tiny")
    )
    assert inside(figure)
    figure.savefig(tmp_path / "case.png", dpi=150)
    pixels = np.asarray(Image.open(tmp_path / "case.png").convert("L"))
    assert 0.02 < (pixels < 200).mean() < 0.6


def test_drawable_keeps_what_the_font_has():
    assert drawable("café – “quoted”\n ✓ ✗ …") == "café – “quoted” ✓ ✗ …"
    assert drawable("日\ufe0f\u200dx\x07") == "□x"


def test_wrap_fills_lines_and_loses_nothing():
    text = "some words of various lengths " * 5 + "y" * 300
    lines = wrap(text, 200, 10)
    assert all(text_width(line, 10) <= 200 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrap("", 200, 10) == [""]
    assert shorten(["a", "b,", "c"], 2) == ["a", "b …"]


def test_training_curves_draw_what_was_measured(tmp_path):
    history = [
        {
            "role": role,
            "epoch": step // 2,
            "step": step,
            "label_loss": 1 / step,
            "reasoning_loss": 3 / step,
            "validation_score": 0.5 if step % 2 == 0 else None,
        }
        for role in ("assistant", "student")
        for step in (3, 1, 2, 4)
    ]
    figure = training_curves(history, "arch4-tiny-full", source_of("tiny"))
    assert len(figure.axes) == 4
    losses, scores = figure.axes[:2]
    assert [line.get_xdata().tolist() for line in losses.lines] == [[1, 2, 3, 4]] * 2
    assert losses.lines[0].get_ydata().tolist() == pytest.approx([3, 1.5, 1, 0.75])
    assert scores.lines[0].get_xdata().tolist() == [2, 4]
    assert "tiny model" in figure.get_suptitle()
    figure.savefig(tmp_path / "curves.png", dpi=50)
    with pytest.raises(ValueError, match="no training history"):
        training_curves([], "r", "tiny")
