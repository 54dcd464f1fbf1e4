"""Answers of a trained model to one of its prompts, with retries, going on where they were interrupted.

The adaptive retry controller (paper, Appendix E) asks again, at most three times, where an answer can't be used:
a reasoning without all its sections or a readable label, a label answer without a readable label. The first
answer is greedy; asking a greedy model again would give the same text, so retries are sampled, from a seed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, Field
from transformers import GenerationConfig

from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import parse
from mulcot_rd.schema import Post, Reasoning


class GenerationParameters(BaseModel):
    """How trained models answer (METHOD: greedy, up to 512 new tokens, left padding, batch 24; Appendix E)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(24, ge=1, description="Prompts answered together")
    max_new_tokens: int = Field(512, ge=8, description="Longest reasoning answer, in tokens")
    max_label_tokens: int = Field(16, ge=4, description="Longest label answer, in tokens")
    max_retries: int = Field(3, ge=0, description="Further answers asked for where one is unusable (Appendix E)")
    retry_temperature: float = Field(
        0.7, gt=0, description="Sampling temperature of retries; the first answer is greedy"
    )
    retry_top_p: float = Field(0.9, gt=0, le=1, description="Probability mass that retries sample from")


class Generated(NamedTuple):
    """One generated answer: its text, and whether the model ended its turn before the length limit."""

    text: str
    finished: bool


class Answer(BaseModel):
    """The answer that was kept for a post: the first usable one, else the least incomplete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    post_id: str
    attempts: int
    text: str
    finished: bool = Field(description="Whether the model ended its turn; a cut answer is no complete reasoning")

    @property
    def reasoning(self) -> Reasoning:
        """The answer as read by the response format."""
        return parse(self.text)

    @property
    def usable(self) -> bool:
        """Whether it is a whole reasoning with its label."""
        return self.finished and not self.reasoning.problems


class AnswerLog:
    """Append-only JSONL of answers; what is in it is not asked for again.

    Args:
        path: The file; its first line names the fingerprint of model, prompts and parameters.
        fingerprint: A log of another fingerprint is started anew.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self._answers: dict[tuple[str, str, int], Generated] = {}
        # Not splitlines: an answer may hold other characters that it takes for the end of a line.
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        # A first line without its end was being written when the process was killed: nothing was logged yet.
        begun = len(lines) > 1
        if not begun or json.loads(lines[0]).get("fingerprint") != fingerprint:
            write_json_line(path, {"fingerprint": fingerprint})
            return
        for line in lines[1:-1]:
            row = json.loads(line)
            self._answers[row["task"], row["post_id"], row["attempt"]] = Generated(row["text"], row["finished"])
        whole = sum(len(line.encode()) + 1 for line in lines[:-1])
        # A line torn by a kill is cut off, so that the next one starts on a line of its own.
        with path.open("r+b") as stream:
            stream.truncate(whole)

    def get(self, task: Task, post_id: str, attempt: int) -> Generated | None:
        """The logged answer, or ``None``."""
        return self._answers.get((task, post_id, attempt))

    def add(self, task: Task, post_ids: Sequence[str], attempt: int, answers: Sequence[Generated]) -> None:
        """Append a batch of answers."""
        rows = [
            {"task": task, "post_id": post_id, "attempt": attempt, "text": answer.text, "finished": answer.finished}
            for post_id, answer in zip(post_ids, answers, strict=True)
        ]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        self._answers.update(zip(((task, post_id, attempt) for post_id in post_ids), answers, strict=True))


def write_json_line(path: Path, value: dict[str, str]) -> None:
    """Start a JSONL file with one row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


def answer_posts(
    model: PeftModel,
    encoder: InputEncoder,
    posts: Sequence[Post],
    task: Task,
    parameters: GenerationParameters,
    *,
    seed: int,
    log: AnswerLog | None,
    description: str,
) -> list[Answer]:
    """Let a model answer the prompt of ``task`` for every post.

    Batches depend on posts and parameters alone, never on what an interrupted run had finished, so that the same
    texts come out either way.

    Args:
        model: Model with adapter, in evaluation mode.
        encoder: Makes the inputs, as in training.
        posts: The posts; answers come back in their order.
        task: "label" or "reasoning".
        parameters: Batch size, lengths, retries.
        seed: Of the retries' sampling.
        log: Keeps finished answers across interruptions; ``None`` keeps nothing.
        description: Names the work on the progress bar.
    """
    prompts = {post.id: encoder.prompt(post, task).ids for post in posts}
    by_id = {post.id: post for post in posts}
    answers: dict[str, list[Generated]] = {post.id: [] for post in posts}
    pending = [post.id for post in posts]
    for attempt in range(1, parameters.max_retries + 2):
        if not pending:
            break
        pending.sort(key=lambda post_id: (len(prompts[post_id]), post_id))
        name = description if attempt == 1 else f"{description}, retry {attempt - 1}"
        with progress(total=len(pending), desc=name, unit="post") as bar:
            for start in range(0, len(pending), parameters.batch_size):
                ids = pending[start : start + parameters.batch_size]
                known = [log.get(task, post_id, attempt) if log else None for post_id in ids]
                if any(answer is None for answer in known):
                    torch.manual_seed(hash((seed, attempt, start)) % (1 << 63))
                    texts = _generate(
                        model, encoder, [prompts[i] for i in ids], [by_id[i].image for i in ids], task, parameters,
                        sample=attempt > 1,
                    )  # fmt: skip
                    if log is not None:
                        log.add(task, ids, attempt, texts)
                else:
                    texts = [answer for answer in known if answer is not None]
                for post_id, text in zip(ids, texts, strict=True):
                    answers[post_id].append(text)
                bar.update(len(ids))
        pending = [post_id for post_id in pending if not _usable(answers[post_id][-1], task)]
    return [_kept(post.id, answers[post.id], task) for post in posts]


def _kept(post_id: str, given: Sequence[Generated], task: Task) -> Answer:
    best = min(range(len(given)), key=lambda index: (_shortcomings(given[index], task), index))
    return Answer(post_id=post_id, attempts=len(given), text=given[best].text, finished=given[best].finished)


def _usable(answer: Generated, task: Task) -> bool:
    return _shortcomings(answer, task) == 0


def _shortcomings(answer: Generated, task: Task) -> int:
    reasoning = parse(answer.text)
    if task == "label":
        return int(reasoning.prediction is None)
    return len(reasoning.problems) + int(not answer.finished)


@torch.no_grad()
def _generate(
    model: PeftModel,
    encoder: InputEncoder,
    prompts: Sequence[Sequence[int]],
    images: Sequence[str],
    task: Task,
    parameters: GenerationParameters,
    *,
    sample: bool,
) -> list[Generated]:
    """Answer one batch of prompts, left-padded."""
    tokenizer, device = encoder.tokenizer, model.device
    length = max(len(ids) for ids in prompts)
    input_ids = torch.full((len(prompts), length), tokenizer.pad_token_id, dtype=torch.long)
    attention = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, length - len(ids) :] = torch.tensor(ids)
        attention[row, length - len(ids) :] = 1
    image_inputs = {name: tensor.to(device) for name, tensor in encoder.images(list(images)).items()}
    image_positions = encoder.image_positions(input_ids).to(device)
    head_columns = model.get_base_model().config.get_text_config().vocab_size
    sampling = (
        {"do_sample": True, "temperature": parameters.retry_temperature, "top_p": parameters.retry_top_p, "top_k": 0}
        if sample
        else {"do_sample": False}
    )
    generated = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=attention.to(device),
        **encoder.family.forward_kwargs(image_positions, image_inputs),
        generation_config=GenerationConfig(
            max_new_tokens=parameters.max_new_tokens if task == "reasoning" else parameters.max_label_tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            # Unset fields would be taken from the checkpoint; some Qwen checkpoints bring a penalty.
            repetition_penalty=1.0,
            # Heads are wider than the tokenizer; the surplus columns mean nothing and are never chosen.
            suppress_tokens=list(range(len(tokenizer), head_columns)) or None,
            **sampling,
        ),
    )
    written = generated[:, length:].cpu()
    texts = [encoder.answer(row.tolist(), task) for row in written]
    ended = (written == tokenizer.eos_token_id).any(dim=1).tolist()
    return [Generated(text, finished) for text, finished in zip(texts, ended, strict=True)]
