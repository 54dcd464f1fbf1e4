"""The prompt texts, each a file beside this module, and the functions that fill them.

Two families: the *trained* prompts of assistant and student, which share their whole opening and differ only
in the response format at the end, and the *teacher* prompts of the two stages (paper, Appendix F and
Figure 6). Text that comes from a post is always filled in as a JSON string, so that its quotes and line
breaks can't be mistaken for the prompt's own.
"""

import json
from functools import cache
from importlib.resources import files
from string import Template
from typing import Literal

from mulcot_rd.schema import Post, Sentiment

Task = Literal["label", "reasoning"]
TASKS: tuple[Task, ...] = ("label", "reasoning")


@cache
def template(name: str) -> Template:
    """The prompt file ``<name>.txt`` as a template, without its final line break."""
    return Template((files(__name__) / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n"))


def fill(name: str, **fields: str) -> str:
    """Fill a prompt file; a missing field raises ``KeyError``."""
    return template(name).substitute(fields)


def opening(post: Post) -> str:
    """Task description and post: the part that the reasoning and the label prompt share."""
    return fill(f"opening_{_grain(post)}", **_post_fields(post))


def trained_prompt(post: Post, task: Task) -> str:
    """The text of the user's turn for assistant and student: shared opening, then the response format."""
    return f"{opening(post)}\n{fill(f'format_{task}')}"


def teacher_prompt(post: Post, told_label: Sentiment | None = None) -> str:
    """The teacher's prompt: ``T_pre`` of Eq. 2, or with a label ``T_exp`` of Eq. 4."""
    grain = _grain(post)
    specific = fill("teacher_predict") if told_label is None else fill("teacher_explain", label=told_label.value)
    parts = (fill(f"teacher_basic_{grain}"), specific, fill("teacher_format"))
    return "\n\n".join([*parts, fill(f"teacher_post_{grain}", **_post_fields(post))])


def retry_prompt(problems: list[str]) -> str:
    """What the adaptive retry controller says to a model whose answer was unusable (Appendix E)."""
    return fill("teacher_retry", problems="; ".join(problems))


def _grain(post: Post) -> str:
    return "coarse" if post.aspect is None else "fine"


def _post_fields(post: Post) -> dict[str, str]:
    fields = {"text": json.dumps(post.text, ensure_ascii=False)}
    if post.aspect is not None:
        fields["aspect"] = json.dumps(post.aspect, ensure_ascii=False)
    return fields
