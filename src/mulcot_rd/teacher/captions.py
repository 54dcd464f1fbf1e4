"""Captions: a text in place of the image, for models that read text alone (paper, Appendix G).

Every image is captioned once, through the same client, ledger, retries and budget as the annotation.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mulcot_rd.demo.image_caption import describe_image
from mulcot_rd.errors import UserError
from mulcot_rd.progress import progress
from mulcot_rd.prompts import caption_prompt, caption_retry_prompt
from mulcot_rd.reasoning import without_thoughts
from mulcot_rd.schema import CaptionRecord, Post, Record
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.offline import MODEL_NAME
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import REFUSALS, Answer, Question, Unusable, ask
from mulcot_rd.teacher.server import ask_server

logger = logging.getLogger(__name__)

# A model that passes the number of words asked for by less than this share is let through.
TOLERANCE = 0.5
# A caption that begins so speaks of the model and not of the image.
_REFUSAL = re.compile(
    r"^\W*(i['\u2019]m (sorry|unable|not able)|i am (sorry|unable|not able)|sorry\b|i cannot\b|i can['\u2019]t\b"
    r"|i apologi[sz]e|unfortunately,? i\b|as an ai\b)",
    re.IGNORECASE,
)


class QuarantinedImage(Record):
    """An image that got no usable caption: one row of ``captions_quarantine.jsonl``."""

    image: str
    reason: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class CaptionQuestion(Question):
    """The question for the caption of the image at a path, at most ``max_words`` words long."""

    image: str
    max_words: int
    history: tuple[Unusable, ...] = ()

    role = "caption"

    @property
    def subject(self) -> str:
        """The image's file name."""
        return Path(self.image).name

    @property
    def prompt(self) -> str:
        """The prompt with the length."""
        return caption_prompt(self.max_words)

    def retry_prompt(self, problems: list[str]) -> str:
        """The turn that follows an unusable caption."""
        return caption_retry_prompt(problems, self.max_words)

    def find_problems(self, answer: Answer) -> list[str]:
        """What makes a caption unusable."""
        text = without_thoughts(answer.text)
        words = len(text.split())
        if not words:
            return ["it is empty"]
        problems = []
        if answer.finish_reason in REFUSALS or _REFUSAL.match(text):
            problems.append("it does not describe the image")
        if answer.finish_reason == "length":
            problems.append("it was cut off at the length limit")
        elif words > (1 + TOLERANCE) * self.max_words:
            problems.append(f"it has {words} words")
        return problems


def caption_images(
    images: Iterable[str], parameters: TeacherParameters, ledger_path: Path, api_key: str | None = None
) -> tuple[list[CaptionRecord], list[QuarantinedImage]]:
    """Caption every image, as ``parameters.captions`` says; images of equal content share one question.

    Returns:
        Captions of the images that got one, in the order of the images, and the images that got none.

    Raises:
        TeacherError: If the captioning can't go on; the message says why and what to do.
        DryRunFinished: In a dry run, if a server would have to be asked.
        ImageError: If an image is missing or broken.
    """
    distinct = list(dict.fromkeys(images))
    settings = parameters.for_captions()
    if settings.provider == "offline":
        bar = progress(distinct, desc="teacher (offline)", unit="image")
        return [_by_rules(image, attempts=1) for image in bar], []
    questions = [CaptionQuestion(image, settings.captions.max_words) for image in distinct]
    work = partial(ask, max_retries=settings.max_retries)
    asked = ask_server(questions, work, settings, ledger_path, api_key, "image")
    failed = [each for each in asked if each.usable is None]
    by_rules = settings.captions.fallback_provider == "offline"
    logger.info("%d of %d image(s) have a caption of the server", len(asked) - len(failed), len(asked))
    if failed:
        first = f"the first ({failed[0].question.image}) because {failed[0].reason}"
        then = "get one by rules" if by_rules else "are in quarantine"
        logger.warning("%d image(s) %s; %s", len(failed), then, first)
        if len(failed) == len(asked) and not by_rules:
            raise TeacherError(
                f"none of {len(asked)} images got a caption, {first}; check teacher.captions.model and the server"
            )
    records: list[CaptionRecord] = []
    quarantine: list[QuarantinedImage] = []
    for each in asked:
        image, answers = each.question.image, each.answers
        if each.usable is not None:
            caption = " ".join(without_thoughts(each.usable.text).split())
            records.append(
                CaptionRecord(
                    image=image, caption=caption, model=each.usable.model, attempts=len(answers), usage=each.usage
                )
            )
        elif by_rules:
            records.append(_by_rules(image, attempts=1 + len(answers)))
        else:
            texts = tuple(answer.text for answer in answers)
            quarantine.append(QuarantinedImage(image=image, reason=each.reason, answers=texts))
    return records, quarantine


def with_captions(posts: list[Post], captions: list[CaptionRecord]) -> list[Post]:
    """The posts with the captions of their images.

    Raises:
        UserError: If an image has no caption.
    """
    by_image = {record.image: record.caption for record in captions}
    for post in posts:
        if post.image not in by_image:
            raise UserError(
                f"the image of post {post.id} ({post.image}) has no caption: run `kedro run --pipeline "
                "teacher_annotation` with the same --params, and see captions_quarantine.jsonl if it failed there"
            )
    return [post.model_copy(update={"caption": by_image[post.image]}) for post in posts]


def _by_rules(image: str, attempts: int) -> CaptionRecord:
    return CaptionRecord(image=image, caption=describe_image(image), model=MODEL_NAME, attempts=attempts)
