"""Answers of a trained model behind an OpenAI-compatible server, such as vLLM with the adapter loaded or merged.

The client is the teacher's: its retries, its limits, and its ledger, by which a run goes on where it was interrupted.
The prompts are the trained ones. First answers are greedy; retries are sampled by the server, and since each answer is
kept under its attempt, a run that goes on has the same texts.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, Generated
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post
from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.teacher.errors import RequestFailedError
from mulcot_rd.teacher.provider import Message, Provider, Question
from mulcot_rd.teacher.running import run, work_through
from mulcot_rd.teacher.server import open_server

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedQuestion:
    """A trained prompt of a post; a :class:`~mulcot_rd.teacher.provider.Question`.

    Attributes:
        subject: The post's id.
        text: The user's turn.
        image: Path of the image, or ``None`` where the model is shown none.
        attempt: Which answer is asked for, from 1.
        max_tokens: Longest answer, in tokens.
    """

    subject: str
    text: str
    image: str | None
    attempt: int
    max_tokens: int

    role: Literal["reasoning"] = "reasoning"
    stage: None = None
    schema: None = None

    @property
    def messages(self) -> list[Message]:
        """One turn: the same prompt for every attempt, as for a local model."""
        return [Message("user", self.text)]


def served_answers(
    encoder: InputEncoder,
    posts: Sequence[Post],
    tasks: Sequence[Task],
    parameters: GenerationParameters,
    *,
    folder: Path,
    api_key: str | None = None,
) -> dict[Task, list[Answer]]:
    """Let the server's model answer the prompts of ``tasks`` for every post, with retries (Appendix E).

    Args:
        encoder: Knows the prompts and what the model is shown.
        posts: The posts; answers come back in their order.
        tasks: "label", "reasoning", or both.
        parameters: Server, lengths, retries, sampling of retries.
        folder: Keeps what was answered, for this model, these prompts and parameters.
        api_key: The server's key from the credentials, or ``None``; a server of one's own needs none.

    Returns:
        Task to its answers.

    Raises:
        TeacherError: If the server can answer nothing at all.
    """
    first, later = (_server_parameters(parameters, encoder, sampled) for sampled in (False, True))
    given: dict[tuple[Task, str], list[Generated]] = {(task, post.id): [] for task in tasks for post in posts}
    open_ones = [(task, post) for post in posts for task in tasks]
    for attempt in range(1, parameters.max_retries + 2):
        name, server = ("first.jsonl", first) if attempt == 1 else ("retries.jsonl", later)
        questions = [_question(encoder, post, task, attempt, parameters) for task, post in open_ones]
        answers = run(_ask(questions, server, folder / name, api_key)) if questions else []
        for (task, post), answer in zip(open_ones, answers, strict=True):
            given[task, post.id].append(answer)
        open_ones = [(task, post) for task, post in open_ones if given[task, post.id][-1].shortcomings(task)]
    return {task: [Answer.kept(post.id, given[task, post.id], task) for post in posts] for task in tasks}


async def _ask(
    questions: Sequence[TrainedQuestion], parameters: TeacherParameters, ledger: Path, api_key: str | None
) -> list[Generated]:
    server = open_server(parameters, ledger, api_key)

    async def ask_one(question: TrainedQuestion) -> Generated:
        return await _answer(question, server.provider)

    return await work_through(
        questions, ask_one, server.provider, workers=parameters.max_concurrency, unit="answer", status=server.status
    )


async def _answer(question: TrainedQuestion, provider: Provider[Question]) -> Generated:
    try:
        answer = await provider.answer(question)
    except RequestFailedError as error:
        logger.warning("post %s has no answer: %s", question.subject, error)
        return Generated("", False)
    return Generated(answer.text, answer.finish_reason == "stop")


def _question(
    encoder: InputEncoder, post: Post, task: Task, attempt: int, parameters: GenerationParameters
) -> TrainedQuestion:
    limits: dict[Task, int] = {"label": parameters.max_label_tokens, "reasoning": parameters.max_new_tokens}
    image = post.image if encoder.sees_images else None
    return TrainedQuestion(post.id, encoder.turn(post, task), image, attempt, limits[task])


def _server_parameters(parameters: GenerationParameters, encoder: InputEncoder, sampled: bool) -> TeacherParameters:
    served = parameters.served
    return TeacherParameters(
        provider="openai",
        base_url=served.base_url,
        api_key_env=served.api_key_env,
        model=str(served.model),
        max_concurrency=served.max_concurrency,
        max_request_retries=served.max_request_retries,
        timeout_s=served.timeout_s,
        temperature=parameters.retry_temperature if sampled else 0.0,
        # The model was trained to write the format; a schema would be another prompt.
        structured_output="off",
        image_size=encoder.image_size,
    )
