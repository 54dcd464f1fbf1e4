"""The prompt texts, each a file beside this module, and the functions that fill them.

Two families: the *trained* prompts of assistant and student, which share their whole opening and differ only
in the response format at the end (an encoder's prompt names both formats), and the *teacher* prompts of the two
stages (paper, Appendix F and Figure 6). Text that comes from a post is always filled in as a JSON string, so that
its quotes and line breaks can't be mistaken for the prompt's own.
"""

import json
from functools import cache
from importlib.resources import files
from string import Template
from typing import Literal

from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.schema import Post, Presentation, Sentiment

Task = Literal["label", "reasoning"]
# What a teacher gets to know of a post's image: the image, its caption in place of it, or nothing.
Send = Literal["image", "caption", "text"]
TASKS: tuple[Task, ...] = ("label", "reasoning")
WHOLE_POST = Presentation()


@cache
def template(name: str) -> Template:
    """The prompt file ``<name>.txt`` as a template, without its final line break."""
    return Template((files(__name__) / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n"))


@cache
def trained_prompts_fingerprint() -> str:
    """A hash of the files that the trained prompts are made of."""
    named = [file for file in files(__name__).iterdir() if file.name.startswith(("opening_", "format_"))]
    return fingerprint([[file.name, file.read_text(encoding="utf-8")] for file in sorted(named, key=lambda f: f.name)])


def fill(name: str, **fields: str) -> str:
    """Fill a prompt file; a missing field raises ``KeyError``."""
    return template(name).substitute(fields)


def opening(post: Post, *, captioned: bool = False, shown: Presentation = WHOLE_POST) -> str:
    """Task description and post: the part that the reasoning and the label prompt share.

    Args:
        post: The post.
        captioned: Whether a caption stands in the text in place of the image (paper, Appendix G).
        shown: Whether image (or caption) and text are shown at all (paper, Table 6).

    Raises:
        UserError: If a caption is wanted and the post has none.
    """
    grain, fields = _grain(post), _post_fields(post)
    if not shown.text:
        del fields["text"]
    if not shown.image:
        return fill(f"opening_text_only_{grain}", **fields)
    if not captioned:
        return fill(f"opening_{grain}" if shown.text else f"opening_image_only_{grain}", **fields)
    if post.caption is None:
        raise UserError(
            f"post {post.id} has no caption, which a text-only model reads in place of its image: set "
            "`captions_needed: true` in the architecture, and run the pipelines from data_preparation on"
        )
    form = "captioned" if shown.text else "caption_only"
    return fill(f"opening_{form}_{grain}", caption=_quoted(post.caption), **fields)


def trained_prompt(post: Post, task: Task, *, captioned: bool = False, shown: Presentation = WHOLE_POST) -> str:
    """The text of the user's turn for assistant and student: shared opening, then the response format."""
    return f"{opening(post, captioned=captioned, shown=shown)}\n{fill(f'format_{task}')}"


def encoder_prompt(post: Post, *, captioned: bool, shown: Presentation = WHOLE_POST) -> str:
    """The text that an encoder reads once for both tasks: shared opening, then both response formats."""
    return f"{opening(post, captioned=captioned, shown=shown)}\n{fill('format_both')}"


def teacher_prompt(post: Post, told_label: Sentiment | None = None, send: Send = "image") -> str:
    """The teacher's prompt: ``T_pre`` of Eq. 2, or with a label ``T_exp`` of Eq. 4.

    Args:
        post: The post; with ``send="caption"`` it needs its caption.
        told_label: The gold label in stage two.
        send: Whether the image goes along, is described by its caption, or is left out.

    Raises:
        ValueError: If the caption is to be sent and the post has none.
    """
    grain, fields = _grain(post), _post_fields(post)
    parts = [
        fill(f"teacher_basic_{grain}"),
        fill("teacher_predict") if told_label is None else fill("teacher_explain", label=told_label.value),
    ]
    if send != "image":
        parts.append(fill(f"teacher_without_image_{send}"))
    parts.append(fill("teacher_format"))
    described = fill(f"teacher_post_{grain}", **fields)
    if send == "caption":
        if post.caption is None:
            raise ValueError(f"post {post.id} has no caption to send")
        described += "\n" + fill("teacher_post_caption", caption=_quoted(post.caption))
    return "\n\n".join([*parts, described])


def retry_prompt(problems: list[str]) -> str:
    """What the adaptive retry controller says to a model whose answer was unusable (Appendix E)."""
    return fill("teacher_retry", problems="; ".join(problems))


def caption_prompt(max_words: int) -> str:
    """What a captioner is asked with an image (Appendix G)."""
    return fill("caption", words=str(max_words))


def caption_retry_prompt(problems: list[str], max_words: int) -> str:
    """What is said to a captioner whose answer was unusable."""
    return fill("caption_retry", problems="; ".join(problems), words=str(max_words))


def judge_prompt(conclusion: str, aspect: str | None) -> str:
    """What a judge is asked about a conclusion: which label it comes to, without being told the one that was given."""
    named = json.dumps(aspect, ensure_ascii=False)
    asked = "its sentiment" if aspect is None else f"the poster's attitude toward {named}"
    return fill("judge", asked=asked, conclusion=json.dumps(conclusion, ensure_ascii=False))


def _grain(post: Post) -> str:
    return "coarse" if post.aspect is None else "fine"


def _post_fields(post: Post) -> dict[str, str]:
    fields = {"text": _quoted(post.text)}
    if post.aspect is not None:
        fields["aspect"] = _quoted(post.aspect)
    return fields


def _quoted(text: str) -> str:
    """Text of a post as a JSON string."""
    return json.dumps(text, ensure_ascii=False)
