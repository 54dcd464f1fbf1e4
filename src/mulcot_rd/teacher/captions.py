"""Captions: a text in place of the image, for models that read text alone (paper, Appendix G).

Every image is captioned once, through the same client, ledger, retries and budget as the annotation.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mulcot_rd.demo.image_caption import describe_image
from mulcot_rd.errors import UserError
from mulcot_rd.prompts import caption_prompt, caption_retry_prompt
from mulcot_rd.reasoning import without_thoughts
from mulcot_rd.schema import CaptionRecord, Post, Record, Usage
from mulcot_rd.teacher.errors import DryRunFinished, RequestFailedError, TeacherError
from mulcot_rd.teacher.offline import MODEL_NAME, OfflineCaptioner
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import Answer, Message, Provider, Unusable
from mulcot_rd.teacher.rehearsal import Nobody, bill, server_or_nobody
from mulcot_rd.teacher.running import run, work_through

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
class CaptionRequest:
    """The question for one image's caption; a :class:`~mulcot_rd.teacher.provider.Question`.

    Attributes:
        image: Path of the image.
        max_words: Longest caption asked for, in words.
        history: The unusable captions so far, oldest first.
    """

    image: str
    max_words: int
    history: tuple[Unusable, ...] = ()

    role: Literal["caption"] = "caption"
    stage: None = None
    max_tokens: None = None
    schema: None = None

    @property
    def subject(self) -> str:
        """The image's file name."""
        return Path(self.image).name

    @property
    def attempt(self) -> int:
        """Which caption of this image is asked for, from 1."""
        return len(self.history) + 1

    @property
    def messages(self) -> list[Message]:
        """The prompt, then every unusable caption with what was wrong with it."""
        turns = [Message("user", caption_prompt(self.max_words))]
        for earlier in self.history:
            turns.append(Message("assistant", earlier.answer.text))
            turns.append(Message("user", caption_retry_prompt(list(earlier.problems), self.max_words)))
        return turns


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
    outcomes = run(_caption_all(distinct, settings, ledger_path, api_key))
    failed = [outcome for outcome in outcomes if isinstance(outcome, QuarantinedImage)]
    if failed and settings.captions.fallback_provider == "offline":
        logger.warning("%d image(s) are captioned by rules alone, since %s", len(failed), failed[0].reason)
        outcomes = [_captioned_by_rules(each) if isinstance(each, QuarantinedImage) else each for each in outcomes]
    captions = Captions(
        records=[outcome for outcome in outcomes if isinstance(outcome, CaptionRecord)],
        quarantine=[outcome for outcome in outcomes if isinstance(outcome, QuarantinedImage)],
    )
    logger.info("%d of %d image(s) have a caption", len(captions.records), len(distinct))
    if captions.quarantine:
        first = captions.quarantine[0]
        logger.warning(
            "%d image(s) are in quarantine; the first (%s) because %s",
            len(captions.quarantine),
            first.image,
            first.reason,
        )
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


def find_caption_problems(answer: Answer, max_words: int) -> list[str]:
    """What makes a caption unusable, in words that can be sent back; empty for a usable one."""
    text = without_thoughts(answer.text)
    words = len(text.split())
    if not words:
        return ["it is empty"]
    problems = []
    if answer.finish_reason in ("refusal", "content_filter") or _REFUSAL.match(text):
        problems.append("it does not describe the image")
    if answer.finish_reason == "length":
        problems.append("it was cut off at the length limit")
    elif words > (1 + TOLERANCE) * max_words:
        problems.append(f"it has {words} words")
    return problems


async def caption_image(
    image: str, provider: Provider[CaptionRequest], max_words: int, max_retries: int
) -> CaptionRecord | QuarantinedImage:
    """Ask until a caption is usable, at most ``1 + max_retries`` times.

    Raises:
        TeacherError: If the provider can answer nothing at all.
    """
    request = CaptionRequest(image, max_words)
    answers: list[Answer] = []
    problems: list[str] = []
    for _ in range(1 + max_retries):
        try:
            answer = await provider.answer(request)
        except RequestFailedError as error:
            return QuarantinedImage(image=image, reason=str(error), answers=tuple(each.text for each in answers))
        answers.append(answer)
        problems = find_caption_problems(answer, max_words)
        if not problems:
            return CaptionRecord(
                image=image,
                caption=" ".join(without_thoughts(answer.text).split()),
                model=answer.model,
                attempts=len(answers),
                usage=Usage(
                    prompt_tokens=sum(each.usage.prompt_tokens for each in answers),
                    completion_tokens=sum(each.usage.completion_tokens for each in answers),
                ),
            )
        request = CaptionRequest(image, max_words, (*request.history, Unusable(answer, tuple(problems))))
    reason = f"no usable caption among {len(answers)}: {'; '.join(problems)}"
    return QuarantinedImage(image=image, reason=reason, answers=tuple(each.text for each in answers))


async def _caption_all(
    images: list[str], settings: TeacherParameters, ledger_path: Path, api_key: str | None
) -> list[CaptionRecord | QuarantinedImage]:
    """Every image, in order."""
    provider: Provider[CaptionRequest]
    if settings.provider == "offline":
        provider, status, nobody = OfflineCaptioner(), str, Nobody()
    else:
        provider, status, nobody = server_or_nobody(settings, ledger_path, api_key)
    outcomes = await work_through(
        images,
        lambda image: caption_image(image, provider, settings.captions.max_words, settings.max_retries),
        provider,
        workers=len(images) if settings.mode == "batch" else settings.max_concurrency,
        unit="image",
        status=status,
    )
    if nobody.asked:
        raise DryRunFinished(
            f"the captions come first: {len(nobody.asked)} question(s) about {len(images)} image(s), "
            f"{bill(nobody.asked, settings.max_tokens, settings)}; once they are there, a dry run estimates the "
            "annotation"
        )
    return outcomes


def _captioned_by_rules(failed: QuarantinedImage) -> CaptionRecord:
    return CaptionRecord(
        image=failed.image,
        caption=describe_image(failed.image),
        model=MODEL_NAME,
        attempts=len(failed.answers) + 1,
    )
