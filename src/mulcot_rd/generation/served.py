"""Answers of a trained model behind an OpenAI-compatible server, such as vLLM with a merged checkpoint.

The client is the teacher's: its retries, its limits, and its ledger, by which a run goes on where it was interrupted.
The prompts are the trained ones, and images arrive with the pixels of training: at its size, as PNG. First answers are
greedy; retries are sampled by the server, and since each answer is kept under its attempt, a run that goes on has the
same texts.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import openai

from mulcot_rd.credentials import is_openai
from mulcot_rd.errors import UserError
from mulcot_rd.generation.parameters import GenerationParameters, ServedParameters
from mulcot_rd.generation.records import Answer, log_cut
from mulcot_rd.models.backbone import looks_local
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import Task
from mulcot_rd.schema import PostContent
from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError, TeacherError
from mulcot_rd.teacher.openai_client import SDK_ERRORS, OpenAITeacher
from mulcot_rd.teacher.questions import AnswerTo, Message
from mulcot_rd.teacher.server import ask_server

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedQuestion:
    """A trained prompt of a post as a :class:`~mulcot_rd.teacher.questions.Question`; ``prompt`` is the user's turn."""

    subject: str
    prompt: str
    image: str | None
    attempt: int
    max_tokens: int
    sampling: dict[str, float] | None

    role: Literal["reasoning"] = "reasoning"
    stage: None = None
    schema: None = None
    lossless: Literal[True] = True

    @property
    def messages(self) -> list[Message]:
        """One turn: the same prompt for every attempt, as for a local model."""
        return [Message("user", self.prompt)]


def served_answers(
    encoder: InputEncoder,
    posts: Sequence[PostContent],
    tasks: Sequence[Task],
    parameters: GenerationParameters,
    *,
    folder: Path,
    api_key: str | None = None,
    complete: bool = True,
) -> list[Answer]:
    """All answers of the server's model, those to one prompt in the order of their attempts.

    The prompts of a post follow each other, so that a server with prefix caching reads image and post once. Arguments
    are those of :class:`~mulcot_rd.generation.AnsweringJob`; ``folder`` keeps what this model answered.
    A prompt that the server refuses has an empty answer that says why, and a line in the log; where the work need not
    be ``complete``, so has one whose request was lost.

    Raises:
        TeacherError: If the server can answer nothing at all; before the first prompt, if it can't be reached or has no
            model of that name; behind the last, if the work is to be complete and a prompt got no answer, but was not
            refused.
        UserError: If the answers begin with a prefix that no chat can give them.
    """
    if encoder.family.encoder_decoder and encoder.view.prompts == "trained":
        raise UserError(
            f"a model of the family {encoder.family.name} is told by its decoder's prefix which answer to write, and a "
            "chat has none: leave generation.backend at local"
        )
    served = parameters.served
    teacher = TeacherParameters(
        provider="openai",
        base_url=served.base_url,
        api_key_env=served.api_key_env,
        model=str(served.model),
        max_concurrency=served.max_concurrency,
        max_request_retries=served.max_request_retries,
        timeout_s=served.timeout_s,
        temperature=0.0,
        # The model was trained to write the format; a schema would be another prompt.
        structured_output="off",
        image_size=encoder.image_size,
    )
    retried = {"temperature": parameters.retry_temperature, "top_p": parameters.retry_top_p}

    async def answers_to(prompt: tuple[Task, PostContent], answer_to: AnswerTo) -> list[Answer]:
        """All answers to a prompt; one that the server refuses is an empty answer."""
        task, post = prompt
        turn, image = encoder.turn(post, task), post.image if encoder.sees_images else None
        given: list[Answer] = []
        while not (given and given[-1].is_last(parameters)):
            attempt, sampling = len(given) + 1, retried if given else None
            question = TrainedQuestion(post.id, turn, image, attempt, parameters.length(task), sampling)
            try:
                reply = await answer_to(question)
            except RequestFailedError as error:
                if complete and not isinstance(error, RequestRefusedError):
                    failed.append(f"post {post.id}: {error}")
                    return given
                logger.warning("post %s has no answer: %s", post.id, error)
                given.append(Answer(task, post.id, attempt, "", False, str(error)))
            else:
                given.append(Answer(task, post.id, attempt, reply.text, reply.finish_reason == "stop"))
        return given

    failed: list[str] = []
    prompts = [(task, post) for post in posts for task in tasks]
    check = None if is_openai(served.base_url) else partial(_check_served, served)
    given = ask_server(prompts, answers_to, teacher, folder / "answers.jsonl", api_key, "prompt", check)
    if failed:
        raise TeacherError(
            f"{len(failed)} of {len(prompts)} prompts got no answer, first {failed[0]}; run the same command again, "
            "what was answered is kept; if it comes again, raise timeout_s or max_request_retries of "
            "generation.served"
        )
    answers = list(chain.from_iterable(given))
    log_cut(str(served.model), answers, parameters.max_new_tokens)
    return answers


async def _check_served(served: ServedParameters, client: OpenAITeacher) -> None:
    """See that the server is there and has the model.

    Raises:
        TeacherError: If not, with the address, and with the command that starts a server, or what it has.
    """
    model, port = str(served.model), urlsplit(client.base_url).port or 80
    start = f"vllm serve FOLDER --served-model-name {model} --port {port}"
    try:
        async with asyncio.timeout(served.timeout_s):
            listed: Any = await client.client.get("/models", cast_to=object)
        names = [str(served_model["id"]) for served_model in listed["data"]]
    except (*SDK_ERRORS, KeyError, TypeError) as error:
        reason = "it lists no models"
        if not isinstance(error, openai.NotFoundError | KeyError | TypeError):
            meant = client.errors.of_exception(error, answered=True)
            if isinstance(meant, TeacherError):
                raise meant from None
            reason = str(meant)
        raise TeacherError(
            f"no server answers at {client.base_url} ({reason}): correct generation.served.base_url, which most often "
            f"ends in /v1, or start one with a FOLDER that kedro export wrote, as `{start}` (docs/serving.md)"
        ) from None
    # transformers serve takes the path of a folder for a name, and does not list it.
    if model not in names and not looks_local(model):
        raise TeacherError(
            f"the server at {client.base_url} has no model {model!r}, it serves: {', '.join(names) or 'none'}; "
            f"set generation.served.model to one of them, or start the server with another: `{start}`"
        )
