"""Answers of a model to the prompts of posts: one reading a post, all tasks and retries from it.

Rows that have finished leave the batch and others take their places at once (continuous batching): first retries,
whose prompts are read already, then the next posts. First answers are greedy; retries are sampled from numbers that
depend on seed, post, task and attempt alone. The texts are those of separate ``generate`` calls, but for ties between
tokens that rounding decides.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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

# Posts read together at most: enough to fill the processor, few enough that masks and logits stay small.
_READ_TOGETHER = 16


@dataclass(frozen=True)
class Asked:
    """An answer that is being written, or waits for a place.

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
        waiting = deque(posts)
        # Read and waiting for a place: retries, and rows of posts just read.
        ready: deque[Asked] = deque()
        places, tasks = self._parameters.batch_size, len(next(iter(prompts.values())))
        batch: _Batch | None = None
        while True:
            free = places - (batch.rows if batch else 0)
            # A few free places wait until reading for them is worth a pass, unless nothing else is left to do.
            spare = free - len(ready)
            if waiting and (spare >= max(tasks, places // 4) or (free == places and not ready)):
                count = min(len(waiting), max(1, spare // tasks), _READ_TOGETHER)
                ready.extend(self._read([waiting.popleft() for _ in range(count)], prompts))
            entering = [ready.popleft() for _ in range(min(free, len(ready)))]
            if entering:
                batch = batch or self._batch(entering[0], prompts)
                batch.enter(entering, self._numbers(entering))
            if batch is None or not batch.rows:
                return
            for asked, written in batch.advance():
                answer = Generated(self._encoder.answer(written, asked.task), self._ended(written))
                if not settled(asked, answer):
                    ready.append(Asked(asked.post_id, asked.task, asked.attempt + 1, asked.read))

    def _read(self, posts: Sequence[Post], prompts: Mapping[str, dict[Task, Prompt]]) -> list[Asked]:
        read = read_posts(self._base, self._encoder, [prompts[p.id] for p in posts], [p.image for p in posts])
        return [
            Asked(post.id, task, 1, one) for post, one in zip(posts, read, strict=True) for task in prompts[post.id]
        ]

    def _numbers(self, entering: Sequence[Asked]) -> list[Tensor | None]:
        """The numbers that each row is sampled from; ``None`` for first answers, which are greedy."""
        keys = [(self._seed, asked.post_id, asked.task, asked.attempt) for asked in entering]
        return [
            torch.from_numpy(draws(key, self._limits[asked.task])) if asked.attempt > 1 else None
            for key, asked in zip(keys, entering, strict=True)
        ]

    def _ended(self, written: Sequence[int]) -> bool:
        return written[-1] == self._encoder.tokenizer.eos_token_id

    def _batch(self, example: Asked, prompts: Mapping[str, dict[Task, Prompt]]) -> "_Batch":
        apart = self._encoder.family.encoder_decoder
        every = [prompt for own in prompts.values() for prompt in own.values()]
        cache = RowCache(
            example.read.opening,
            example.read.crossed,
            rows=self._parameters.batch_size,
            prompt=max(len(prompt.ending) + (0 if apart else len(prompt.opening)) for prompt in every),
            answer=max(self._limits[task] for own in prompts.values() for task in own),
            encoded=max(len(prompt.opening) for prompt in every),
            static=self._static,
        )
        return _Batch(self._base, self._encoder, cache, example, self._limits, self._parameters)


class _Batch:
    """The rows that are being written: dense, row by row in step."""

    def __init__(
        self,
        base: PreTrainedModel,
        encoder: InputEncoder,
        cache: RowCache,
        example: Asked,
        limits: Mapping[Task, int],
        parameters: GenerationParameters,
    ) -> None:
        branch = example.read.branches[example.task]
        self._cache, self._limits, self._parameters = cache, limits, parameters
        self._decoder = Decoder(base, cache, rotary_dimensions=branch.rotary_dimensions, hidden_size=len(branch.state))
        self._head = base.lm_head
        self._columns = len(encoder.tokenizer)
        self._end = encoder.tokenizer.eos_token_id
        self._asked: list[Asked] = []
        rows, device = parameters.batch_size, base.device
        longest = max(limits.values())
        self._written = torch.zeros((rows, longest), dtype=torch.long, device=device)
        self._numbers = torch.zeros((rows, longest), device=device)
        self._count = torch.zeros(rows, dtype=torch.long, device=device)
        self._limit = torch.zeros(rows, dtype=torch.long, device=device)

    @property
    def rows(self) -> int:
        """Rows that are being written."""
        return len(self._asked)

    def enter(self, entering: Sequence[Asked], numbers: Sequence[Tensor | None]) -> None:
        """Take rows in; their first token is chosen by the next :meth:`advance`."""
        branches = [asked.read.branches[asked.task] for asked in entering]
        self._cache.enter(
            [(asked.read.opening, branch.ending) for asked, branch in zip(entering, branches, strict=True)],
            [asked.read.crossed for asked in entering],
        )
        places = slice(self.rows, self.rows + len(entering))
        self._decoder.states[places] = torch.stack([branch.state for branch in branches])
        self._decoder.positions[places] = self._tensor([branch.position for branch in branches])
        self._limit[places] = self._tensor([self._limits[asked.task] for asked in entering])
        self._count[places] = 0
        for row, own in enumerate(numbers, start=self.rows):
            if own is not None:
                self._numbers[row, : len(own)] = own.to(self._numbers.device)
        self._asked.extend(entering)

    def advance(self) -> list[tuple[Asked, list[int]]]:
        """Write one token in every row; rows that end with it leave, the others are ready for the next.

        Returns:
            What left, with the token ids written, the end of the turn included.
        """
        rows = self.rows
        tokens = self._choose(rows)
        self._written[torch.arange(rows, device=tokens.device), self._count[:rows]] = tokens
        self._count[:rows] += 1
        self._decoder.tokens[:rows] = tokens
        ended = ((tokens == self._end) | (self._count[:rows] == self._limit[:rows])).tolist()
        left = [row for row, over in enumerate(ended) if over] if any(ended) else []
        answers = [(self._asked[row], self._written[row, : int(self._count[row])].tolist()) for row in left]
        if left:
            self._leave(left)
        if self.rows:
            self._decoder.step(self.rows)
        return answers

    def _choose(self, rows: int) -> Tensor:
        """The next token of every row [rows]; columns of the head beyond the tokenizer mean nothing."""
        logits = self._head(self._decoder.states[:rows])[:, : self._columns]
        tokens = logits.argmax(dim=-1)
        sampled = [row for row, asked in enumerate(self._asked) if asked.attempt > 1]
        if sampled:
            chosen = self._tensor(sampled)
            numbers = self._numbers[chosen, self._count[chosen]]
            settings = self._parameters
            tokens[chosen] = drawn(logits[chosen], numbers, settings.retry_temperature, settings.retry_top_p)
        return tokens

    def _leave(self, left: Sequence[int]) -> None:
        gone = set(left)
        remaining = self.rows - len(left)
        holes = [row for row in left if row < remaining]
        movers = [row for row in range(remaining, self.rows) if row not in gone]
        to, of = self._tensor(holes), self._tensor(movers)
        self._cache.keep(remaining, to, of)
        if holes:
            decoder = self._decoder
            for own in (self._written, self._numbers, self._count, self._limit, decoder.tokens, decoder.positions):
                own[to] = own[of]
        for hole, mover in zip(holes, movers, strict=True):
            self._asked[hole] = self._asked[mover]
        del self._asked[remaining:]

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._count.device)
