"""Continuous batching: a row whose answer has ended takes the next prompt at once.

One prefill of a post serves all its tasks, and retries begin again from the prompt that their row holds. First answers
are greedy, retries are sampled. The texts are those of separate ``generate`` calls, but for ties between tokens that
rounding decides.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation.decoder import Decoder
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.prefill import Branch, prefill
from mulcot_rd.generation.records import Answer
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.models.sharding import is_sharded
from mulcot_rd.prompts import Task
from mulcot_rd.schema import PostContent

# Posts of one prefill at most, and no more than have rows: enough to fill the processor, few enough that masks and what
# waits for a row stay small.
_PREFILL_POSTS = 16


@dataclass
class _Row:
    """An answer in the making; the keys and values of its prompt are in the KV cache.

    Attributes:
        task: Which prompt it answers.
        post_id: The post.
        last: Of the prompt, as :class:`~mulcot_rd.generation.prefill.Branch` has it.
        attempt: Number of the answer, from 1.
        generator: Draws the tokens of a retry; ``None`` for a greedy answer.
        written: Tokens of the answer so far.
    """

    task: Task
    post_id: str
    last: tuple[int, int, int]
    attempt: int = 1
    generator: torch.Generator | None = None
    written: list[int] = field(default_factory=list)

    def next_input(self) -> tuple[int, int, int]:
        """The token that the next step reads, the number of tokens before it, and its rotary position."""
        token, length, position = self.last
        count = len(self.written)
        # The prompt's last token is read once more: prefill makes no logits.
        return self.written[-1] if count else token, length + count, position + count

    def retry(self, seed: int) -> "_Row":
        """The next attempt; its seed is its own, so what it draws does not depend on the rows beside it."""
        key = (seed, self.post_id, self.task, self.attempt + 1)
        generator = torch.Generator().manual_seed(int(fingerprint(key)[:15], 16))
        return _Row(self.task, self.post_id, self.last, self.attempt + 1, generator)


@torch.no_grad()
def write_answers(
    base: PreTrainedModel,
    encoder: InputEncoder,
    posts: Sequence[PostContent],
    prompts: Mapping[str, Mapping[Task, Prompt]],
    parameters: GenerationParameters,
    *,
    seed: int,
    static: bool | None = None,
    streamed: bool = False,
) -> Iterator[Answer]:
    """Answer every task of every post, with retries (Appendix E): the same posts always give the same texts.

    Args:
        base: The family's model, in evaluation mode.
        encoder: Makes its inputs, as in training.
        posts: The posts, in the order in which they are read.
        prompts: Post id to the prompts of its tasks, the same tasks for all posts.
        parameters: Rows, lengths, retries; an answer is no longer than the model can hold.
        seed: Of the retries' sampling.
        static: Whether steps have fixed shapes, as graph capture needs; by default on a GPU, where no weights are
            sharded.
        streamed: Whether to yield answers that the model is still writing, too.

    Yields:
        Each answer as it ends; those to one prompt in the order of their attempts. Where they are streamed, each also
        after every token before its last.
    """
    if not posts:
        return
    every = [prompt for post in posts for prompt in prompts[post.id].values()]
    tasks = prompts[posts[0].id].keys()
    rows: list[_Row | None] = [None] * min(parameters.batch_size, len(every))
    together = min(_PREFILL_POSTS, max(1, len(rows) // len(tasks)))
    read = [len(prompt.suffix if encoder.family.encoder_decoder else prompt.ids) for prompt in every]
    lengths = {task: parameters.length(task) for task in tasks}
    if encoder.family.longest_text is not None:
        lengths = {task: min(length, encoder.family.longest_text - max(read)) for task, length in lengths.items()}
    waiting, ready = deque(posts), deque[Branch]()
    decoder: Decoder | None = None
    while waiting or ready or any(rows):
        free = [number for number, row in enumerate(rows) if row is None]
        # Whole groups, also where fewer rows are free: what is left over enters as soon as others leave.
        while waiting and len(ready) < len(free):
            group = [waiting.popleft() for _ in range(min(together, len(waiting)))]
            ready.extend(prefill(base, encoder, group, prompts))
        if decoder is None:
            decoder = Decoder(
                base, encoder, ready[0], rows=len(rows),
                columns=max(read) + max(lengths.values()),
                encoded=max(len(prompt.prefix) for prompt in every),
                static=base.device.type == "cuda" and not is_sharded(base) if static is None else static,
            )  # fmt: skip
        for number in free[: len(ready)]:
            branch = ready.popleft()
            decoder.enter(number, branch)
            rows[number] = _Row(branch.task, branch.post_id, branch.last)
        logits = decoder.step([None if row is None else row.next_input() for row in rows])
        for number, token in enumerate(_choose(rows, logits, parameters)):
            row = rows[number]
            if row is None:
                continue
            row.written.append(token)
            finished = token == encoder.tokenizer.eos_token_id
            ended = finished or len(row.written) == lengths[row.task]
            if ended or streamed:
                text = encoder.answer(row.written, row.task)
                answer = Answer(row.task, row.post_id, row.attempt, text, finished if ended else None)
                if ended:
                    rows[number] = None if answer.is_last(parameters) else row.retry(seed)
                yield answer


def _choose(rows: Sequence[_Row | None], logits: Tensor, parameters: GenerationParameters) -> list[int]:
    """The next token of each row: the likeliest one, or a sampled one in a retry."""
    tokens = logits.argmax(dim=-1)
    drawing = {number: row.generator for number, row in enumerate(rows) if row and row.generator}
    if drawing:
        own = list(drawing)
        numbers = torch.cat([torch.rand(1, generator=generator) for generator in drawing.values()]).to(logits.device)
        tokens[own] = sample(logits[own], numbers, parameters.retry_temperature, parameters.retry_top_p)
    return tokens.tolist()


def sample(logits: Tensor, numbers: Tensor, temperature: float, top_p: float) -> Tensor:
    """Top-p sampling: draw from the likeliest tokens that together have the probability ``top_p``.

    Args:
        logits: [rows, V].
        numbers: In [0, 1), one a row: where in the probability mass of these tokens the drawn one lies.
        temperature: Divides the logits.
        top_p: Probability mass; the token that reaches it is one of them.

    Returns:
        Token ids [rows].
    """
    probabilities, ids = (logits.float() / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    mass = probabilities.where(before < top_p, 0).cumsum(dim=-1)
    return ids.gather(1, torch.searchsorted(mass, numbers[:, None] * mass[:, -1:]))[:, 0]
