"""Answers of a model to the prompts of posts: one prefill a post, all tasks and retries from it.

A row that has finished makes room for another at once (continuous batching): first retries, whose prompts are read
already, then the next posts. First answers are greedy; retries are sampled from numbers that depend on seed, post,
task and attempt alone. The texts are those of separate ``generate`` calls, but for ties between tokens that rounding
decides.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.generation.cache import RowCache
from mulcot_rd.generation.choice import drawn, draws
from mulcot_rd.generation.decoder import Decoder
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.prefill import ReadPost, read_posts
from mulcot_rd.generation.records import Generated
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post

# Posts read together at most, and no more than have rows: enough to fill the processor, few enough that masks and what
# is read ahead stay small.
_READ_TOGETHER = 16


@dataclass(frozen=True)
class Asked:
    """An answer that is being written, or waits for a row.

    Attributes:
        post_id: The post.
        task: Which prompt.
        attempt: 1 for the first answer, which is greedy.
        read: The post as the model has read it.
    """

    post_id: str
    task: Task
    attempt: int
    read: ReadPost


@dataclass
class _Row:
    """An answer in the making.

    Attributes:
        asked: What it answers.
        newest: Token that the next step reads: at first the prompt's last one, which is read once more.
        length: Tokens before the newest one.
        position: Rotary position of the newest token.
        numbers: What it is sampled from; ``None`` if greedy.
        written: Tokens of the answer so far.
    """

    asked: Asked
    newest: int
    length: int
    position: int
    numbers: Tensor | None
    written: list[int] = field(default_factory=list)


class Engine:
    """Writes the answers of one group of posts.

    What happens when is a function of the posts, the model and the parameters: the same group gives the same texts.

    Args:
        base: The family's model, in evaluation mode.
        encoder: Makes its inputs, as in training.
        parameters: Rows, lengths, sampling.
        seed: Of the retries' sampling.
        static: Whether steps have fixed shapes, as graph capture needs; by default on a GPU.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        encoder: InputEncoder,
        parameters: GenerationParameters,
        *,
        seed: int,
        static: bool | None = None,
    ) -> None:
        self._base, self._encoder, self._parameters, self._seed = base, encoder, parameters, seed
        self._static = base.device.type == "cuda" if static is None else static
        self._limits: dict[Task, int] = {
            "label": parameters.max_label_tokens,
            "reasoning": parameters.max_new_tokens,
        }

    @torch.no_grad()
    def answer(
        self,
        posts: Sequence[Post],
        prompts: Mapping[str, dict[Task, Prompt]],
        settled: Callable[[Asked, Generated], bool],
    ) -> None:
        """Answer every task of every post.

        Args:
            posts: The posts, in the order in which they are read.
            prompts: Post id to the prompts of its tasks, the same tasks for all posts.
            settled: Told each answer as it is finished; says whether it is the last one of its post and task.
        """
        tasks = len(prompts[posts[0].id])
        rows: list[_Row | None] = [None] * min(self._parameters.batch_size, tasks * len(posts))
        at_once = min(_READ_TOGETHER, max(1, len(rows) // tasks))
        waiting = deque(posts)
        # Read and waiting for a row: retries, and prompts of posts just read.
        ready: deque[Asked] = deque()
        decoder: Decoder | None = None
        while waiting or ready or any(rows):
            free = [number for number, row in enumerate(rows) if row is None]
            # Whole groups, also where fewer rows are free: what is left over enters as soon as others leave.
            while waiting and len(ready) < len(free):
                group = [waiting.popleft() for _ in range(min(at_once, len(waiting)))]
                ready.extend(self._read(group, prompts))
            decoder = decoder or self._decoder(len(rows), ready[0].read, [prompts[post.id] for post in posts])
            for number in free[: len(ready)]:
                rows[number] = self._enter(decoder.cache, number, ready.popleft())
            tokens = self._choose(rows, decoder.step([row and (row.newest, row.length, row.position) for row in rows]))
            again = []
            for number, row in enumerate(rows):
                if row is None or not self._is_over(row, tokens[number]):
                    continue
                rows[number] = None
                answer = Generated(self._encoder.answer(row.written, row.asked.task), self._ended(row))
                if not settled(row.asked, answer):
                    again.append(Asked(row.asked.post_id, row.asked.task, row.asked.attempt + 1, row.asked.read))
            ready.extendleft(reversed(again))

    def _read(self, posts: Sequence[Post], prompts: Mapping[str, dict[Task, Prompt]]) -> list[Asked]:
        read = read_posts(self._base, self._encoder, [prompts[p.id] for p in posts], [p.image for p in posts])
        return [
            Asked(post.id, task, 1, one) for post, one in zip(posts, read, strict=True) for task in prompts[post.id]
        ]

    def _decoder(self, rows: int, read: ReadPost, prompts: Sequence[Mapping[Task, Prompt]]) -> Decoder:
        every = [prompt for own in prompts for prompt in own.values()]
        apart = self._encoder.family.encoder_decoder
        cache = RowCache(
            read.prefix,
            read.crossed,
            rows=rows,
            columns=max(len(prompt.ending if apart else prompt.ids) for prompt in every)
            + max(self._limits[task] for own in prompts for task in own),
            encoded=max(len(prompt.opening) for prompt in every),
        )
        return Decoder(self._encoder, self._base, cache, read.rotary_dimensions, static=self._static)

    def _enter(self, cache: RowCache, number: int, asked: Asked) -> _Row:
        read, branch = asked.read, asked.read.branches[asked.task]
        cache.enter(number, read.prefix, branch.suffix, read.crossed)
        numbers = None
        if asked.attempt > 1:
            key = (self._seed, asked.post_id, asked.task, asked.attempt)
            numbers = torch.from_numpy(draws(key, self._limits[asked.task]))
        length = read.prefix.shape[2] + branch.suffix.shape[2] - 1
        return _Row(asked, branch.last_token, length, branch.position, numbers)

    def _choose(self, rows: Sequence[_Row | None], logits: Tensor) -> list[int]:
        """The next token of each row: the likeliest one, or one drawn from the row's own numbers."""
        tokens = logits.argmax(dim=-1)
        sampled = [number for number, row in enumerate(rows) if row is not None and row.numbers is not None]
        if sampled:
            numbers = torch.stack([rows[n].numbers[len(rows[n].written)] for n in sampled]).to(logits.device)
            settings = self._parameters
            tokens[sampled] = drawn(logits[sampled], numbers, settings.retry_temperature, settings.retry_top_p)
        return tokens.tolist()

    def _is_over(self, row: _Row, token: int) -> bool:
        """Add a token to a row; says whether its answer ends with it."""
        row.written.append(token)
        row.newest, row.length, row.position = token, row.length + 1, row.position + 1
        return self._ended(row) or len(row.written) == self._limits[row.asked.task]

    def _ended(self, row: _Row) -> bool:
        return row.written[-1] == self._encoder.tokenizer.eos_token_id
