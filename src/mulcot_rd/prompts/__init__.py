"""The prompts: Jinja2 templates beside this module, and the functions that fill them.

``student.j2`` is the *trained* prompt of assistant and student: its two tasks share everything above the response
format at the end, and an encoder's prompt names both formats. ``teacher.j2`` is the prompt of the teacher's two stages
(paper, Appendix F and Figure 6). Text that comes from a post is always filled in as a JSON string, so that its quotes
and line breaks can't be mistaken for the prompt's own.
"""

import json
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.schema import InputView, PostContent, Sentiment

Task = Literal["label", "reasoning"]
# What a teacher gets to know of a post's image: the image, its caption in place of it, or nothing.
Send = Literal["image", "caption", "text"]
TASKS: tuple[Task, ...] = ("label", "reasoning")
WHOLE_POST = InputView()

_TEMPLATES = Environment(
    loader=PackageLoader(__name__, ""),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def trained_prompt(post: PostContent, task: Task, *, captioned: bool = False, view: InputView = WHOLE_POST) -> str:
    """The text of the user's turn for assistant and student: shared prefix, then the response format.

    Args:
        post: The post.
        task: Which response format to ask for.
        captioned: Whether a caption stands in the text in place of the image (paper, Appendix G).
        view: Whether image (or caption) and text are part of the input at all (paper, Table 6).

    Raises:
        UserError: If a caption is wanted and the post has none.
    """
    return _of_post(post, task, captioned, view)


def encoder_prompt(post: PostContent, *, captioned: bool, view: InputView = WHOLE_POST, instructed: bool = True) -> str:
    """The text that an encoder reads once for both tasks: as :func:`trained_prompt`, with both response formats.

    Args:
        post: The post.
        captioned: Whether a caption stands in place of the image.
        view: What of the post is part of the input.
        instructed: Whether the instructions stand around the post; else it is text, caption and aspect alone.
    """
    return _of_post(post, "both" if instructed else None, captioned, view, instructed)


@cache
def response_format(task: Literal["label", "reasoning", "both"]) -> str:
    """The end of a trained prompt, which its task alone determines."""
    return _student(task=task).removeprefix(f"{_student()}\n")


@cache
def trained_prompts_fingerprint() -> str:
    """A hash of all texts of the trained prompts, with a name in place of what a post fills in.

    It is the hash that earlier versions took of the files that held these texts; their names are in it.
    """
    views: dict[str, dict[str, Any]] = {
        "": {"image": True, "text": "$text"},
        "image_only_": {"image": True},
        "text_only_": {"text": "$text"},
        "captioned_": {"text": "$text", "caption": "$caption"},
        "caption_only_": {"caption": "$caption"},
    }
    texts = {f"format_{task}": response_format(task) for task in (*TASKS, "both")}
    for view, inputs in views.items():
        # The names are part of the fingerprint by which finished models are found again.
        texts[f"opening_{view}coarse"] = _student(**inputs)
        texts[f"opening_{view}fine"] = _student(**inputs, aspect="$aspect")
    return fingerprint([[f"{name}.txt", f"{text}\n"] for name, text in sorted(texts.items())])


def teacher_prompt(post: PostContent, told_label: Sentiment | None = None, send: Send = "image") -> str:
    """The teacher's prompt: ``T_pre`` of Eq. 2, or with a label ``T_exp`` of Eq. 4.

    Args:
        post: The post; with ``send="caption"`` it needs its caption.
        told_label: The gold label in stage two.
        send: Whether the image goes along, is described by its caption, or is left out.

    Raises:
        ValueError: If the caption is to be sent and the post has none.
    """
    if send == "caption" and post.caption is None:
        raise ValueError(f"post {post.id} has no caption to send")
    text, aspect, caption = _quoted(post.text), _quoted(post.aspect), _quoted(post.caption)
    return _render("teacher", text=text, aspect=aspect, caption=caption, label=told_label, send=send)


def retry_prompt(problems: list[str]) -> str:
    """What the adaptive retry controller says to a model whose answer was unusable (Appendix E)."""
    return _render("retry", problems="; ".join(problems), words=None)


def caption_prompt(max_words: int) -> str:
    """What a captioner is asked with an image (Appendix G)."""
    return _render("caption", words=max_words)


def caption_retry_prompt(problems: list[str], max_words: int) -> str:
    """What is said to a captioner whose answer was unusable."""
    return _render("retry", problems="; ".join(problems), words=max_words)


def judge_prompt(conclusion: str, aspect: str | None) -> str:
    """What a judge is asked about a conclusion: which label it comes to, without being told the one that was given."""
    return _render("judge", conclusion=_quoted(conclusion), aspect=_quoted(aspect))


def _of_post(post: PostContent, task: str | None, captioned: bool, view: InputView, instructed: bool = True) -> str:
    if captioned and view.image and post.caption is None:
        raise UserError(
            f"post {post.id} has no caption, which a text-only model reads in place of its image: set "
            "`captions_needed: true` in the architecture, and run the pipelines from data_preparation on"
        )
    return _student(
        image=view.image and not captioned,
        text=_quoted(post.text) if view.text else None,
        caption=_quoted(post.caption) if view.image and captioned else None,
        aspect=_quoted(post.aspect),
        task=task,
        instructed=instructed,
    )


def _student(
    *,
    image: bool = False,
    text: str | None = None,
    caption: str | None = None,
    aspect: str | None = None,
    task: str | None = None,
    instructed: bool = True,
) -> str:
    return _render("student", image=image, text=text, caption=caption, aspect=aspect, task=task, instructed=instructed)


def _render(name: str, **fields: Any) -> str:
    return _TEMPLATES.get_template(f"{name}.j2").render(fields).removesuffix("\n")


def _quoted(text: str | None) -> str | None:
    """Text of a post as a JSON string."""
    return None if text is None else json.dumps(text, ensure_ascii=False)
