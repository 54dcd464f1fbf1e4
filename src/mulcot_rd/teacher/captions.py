"""Captions: a text in place of the image, for models that read text alone (paper, Appendix G).

Every image is captioned once, through the same client, ledger, retries and budget as the annotation.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mulcot_rd.demo.image_caption import describe_image
from mulcot_rd.errors import UserError
from mulcot_rd.progress import progress
from mulcot_rd.prompts import caption_prompt, caption_retry_prompt
from mulcot_rd.reasoning import without_thoughts
from mulcot_rd.schema import CaptionRecord, Post, Record
from mulcot_rd.teacher.asking import Asked, ask_all
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.offline import MODEL_NAME
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import REFUSALS, Answer, Question, Unusable

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
class Captions:
    """Captions of the images that got one, in the order of the images, and the images that got none."""

    records: list[CaptionRecord]
    quarantine: list[QuarantinedImage]


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
) -> Captions:
    """Caption every distinct image once.

    Images of equal content share one question, whatever their paths. Answers of a server are kept in the ledger:
    called again, nothing that was answered is asked again.

    Args:
        images: Paths; repeated ones count once.
        parameters: The teacher's parameters, whose group ``captions`` says who captions.
        ledger_path: JSONL file of answers, the annotation's own.
        api_key: Key of the server, or ``None`` to take ``OPENAI_API_KEY``.

    Raises:
        TeacherError: If the captioning can't go on; the message says why and what to do.
        DryRunFinished: In a dry run, if a server would have to be asked.
        ImageError: If an image is missing or broken.
    """
    distinct = list(dict.fromkeys(images))
    settings = parameters.for_captions()
    outcomes: list[CaptionRecord | QuarantinedImage]
    if settings.provider == "offline":
        outcomes = [caption_by_rules(image) for image in progress(distinct, desc="teacher (offline)", unit="image")]
    else:
        questions = [CaptionQuestion(image, settings.captions.max_words) for image in distinct]
        answered = ask_all(questions, settings, ledger_path, api_key, "image")
        outcomes = [_read(image, asked) for image, asked in zip(distinct, answered, strict=True)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, QuarantinedImage)]
    if failed and settings.captions.fallback_provider == "offline":
        logger.warning("%d image(s) are captioned by rules alone, since %s", len(failed), failed[0].reason)
        by_rules = {each.image: caption_by_rules(each.image, 1 + len(each.answers)) for each in failed}
        outcomes = [by_rules.get(outcome.image, outcome) for outcome in outcomes]
    captions = Captions(
        records=[outcome for outcome in outcomes if isinstance(outcome, CaptionRecord)],
        quarantine=[outcome for outcome in outcomes if isinstance(outcome, QuarantinedImage)],
    )
    logger.info("%d of %d image(s) have a caption", len(captions.records), len(distinct))
    if captions.quarantine:
        first, count = captions.quarantine[0], len(captions.quarantine)
        logger.warning("%d image(s) are in quarantine; the first (%s) because %s", count, first.image, first.reason)
        if not captions.records:
            raise TeacherError(
                f"none of {len(distinct)} images got a caption, the first because {first.reason}; check "
                "teacher.captions.model and the server"
            )
    return captions


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


def caption_by_rules(image: str, attempts: int = 1) -> CaptionRecord:
    """The caption of rules over the pixels; raises ``ImageError`` if the image is missing or broken."""
    return CaptionRecord(image=image, caption=describe_image(image), model=MODEL_NAME, attempts=attempts)


def _read(image: str, asked: Asked[CaptionQuestion]) -> CaptionRecord | QuarantinedImage:
    answers, usable = asked.answers, asked.usable
    if usable is None:
        return QuarantinedImage(image=image, reason=asked.reason, answers=tuple(answer.text for answer in answers))
    return CaptionRecord(
        image=image,
        caption=" ".join(without_thoughts(usable.text).split()),
        model=usable.model,
        attempts=len(answers),
        usage=asked.usage,
    )
