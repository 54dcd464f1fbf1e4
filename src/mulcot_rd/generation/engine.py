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

from mulcot_rd.generation.attention import Packing
from mulcot_rd.generation.cache import RowCache
from mulcot_rd.generation.choice import drawn, draws
from mulcot_rd.generation.decoder import Decoder, Step
from mulcot_rd.generation.drafts import Drafts
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.prefill import ReadPost, read_posts
from mulcot_rd.generation.records import Generated
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post

# Posts read together at most, and no more than have places: enough to fill the processor, few enough that masks and
# what is read ahead stay small.
_READ_TOGETHER = 16
# Examples that guesses begin with: more of them cost more time to read than they save.
_EXAMPLES = 96


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
        examples: Answers such as the model was trained to write; guesses at its next tokens begin with them.
        static: Whether steps have fixed shapes, as graph capture needs; by default on a GPU.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        encoder: InputEncoder,
        parameters: GenerationParameters,
        *,
        seed: int,
        examples: Sequence[tuple[Task, str]] = (),
        static: bool | None = None,
    ) -> None:
        self._base, self._encoder, self._parameters, self._seed = base, encoder, parameters, seed
        self._examples = examples[:_EXAMPLES]
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
        places = self._parameters.batch_size
        at_once = min(_READ_TOGETHER, max(1, places // len(next(iter(prompts.values())))))
        batch: _Batch | None = None
        while True:
            free = places - (batch.rows if batch else 0)
            # Whole groups, also where fewer places are free: what is left over enters as soon as others leave.
            while waiting and len(ready) < free:
                group = [waiting.popleft() for _ in range(min(at_once, len(waiting)))]
                ready.extend(self._read(group, prompts))
            entering = [ready.popleft() for _ in range(min(free, len(ready)))]
            over = []
            if entering:
                batch = batch or self._batch(entering[0], prompts)
                over += batch.enter(entering, self._numbers(entering))
            if batch is None or not (batch.rows or over):
                return
            if batch.rows:
                over += batch.advance()
            again = []
            for row in over:
                asked = row.asked
                answer = Generated(self._encoder.answer(row.written, asked.task), self._ended(row.written))
                if not settled(asked, answer):
                    again.append(Asked(asked.post_id, asked.task, asked.attempt + 1, asked.read))
            ready.extendleft(reversed(again))

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

    def _logits(self, states: Tensor) -> Tensor:
        """Logits [N, V] of last hidden states [N, hidden size]; columns without a token are left out."""
        return self._base.lm_head(states)[:, : len(self._encoder.tokenizer)]

    def _ended(self, written: Sequence[int]) -> bool:
        return written[-1] == self._encoder.tokenizer.eos_token_id

    def _batch(self, example: Asked, prompts: Mapping[str, dict[Task, Prompt]]) -> "_Batch":
        apart = self._encoder.family.encoder_decoder
        every = [prompt for own in prompts.values() for prompt in own.values()]
        longest = max(len(prompt.ending) + (0 if apart else len(prompt.opening)) for prompt in every)
        answer = max(self._limits[task] for own in prompts.values() for task in own)
        cache = RowCache(
            example.read.opening,
            example.read.crossed,
            rows=self._parameters.batch_size,
            columns=longest + answer + self._parameters.draft_tokens,
            encoded=max(len(prompt.opening) for prompt in every),
        )
        decoder = Decoder(
            self._encoder.family,
            self._base,
            cache,
            rows=self._parameters.batch_size,
            rotary_dimensions=example.read.branches[example.task].rotary_dimensions,
            width=1 + self._parameters.draft_tokens,
            static=self._static,
        )
        drafts = Drafts(self._parameters.draft_tokens)
        for task, text in self._examples:
            ending = example.read.branches[task].last_tokens if task in example.read.branches else []
            drafts.learn([*ending, *self._encoder.target(text, task)], len(ending))
        end = self._encoder.tokenizer.eos_token_id
        return _Batch(cache, decoder, self._logits, drafts, self._limits, end, self._parameters)


@dataclass
class _Row:
    """An answer in the making.

    Attributes:
        asked: What it answers.
        context: The last tokens of its prompt, and the tokens written so far.
        prompt: Length of the first part of ``context``.
        length: Tokens whose keys and values the row has: prompt and answer but for the newest token.
        position: Rotary position of the newest token.
        numbers: What it is sampled from; ``None`` if greedy.
    """

    asked: Asked
    context: list[int]
    prompt: int
    length: int
    position: int
    numbers: Tensor | None

    @property
    def written(self) -> list[int]:
        """The tokens of the answer."""
        return self.context[self.prompt :]


class _Batch:
    """The rows that are being written, without gaps between them."""

    def __init__(
        self,
        cache: RowCache,
        decoder: Decoder,
        logits: Callable[[Tensor], Tensor],
        drafts: Drafts,
        limits: Mapping[Task, int],
        end: int,
        parameters: GenerationParameters,
    ) -> None:
        self._cache, self._decoder, self._logits, self._drafts = cache, decoder, logits, drafts
        self._limits, self._end = limits, end
        self._parameters = parameters
        self._rows: list[_Row] = []

    @property
    def rows(self) -> int:
        """Rows that are being written."""
        return len(self._rows)

    def enter(self, entering: Sequence[Asked], numbers: Sequence[Tensor | None]) -> list[_Row]:
        """Take rows in and write their first token; returns those that it ends."""
        states = []
        for asked, own in zip(entering, numbers, strict=True):
            branch = asked.read.branches[asked.task]
            self._cache.enter(len(self._rows), asked.read.opening, branch.ending, asked.read.crossed)
            length = asked.read.opening.shape[1] + branch.ending.shape[1]
            context = branch.last_tokens
            # The newest token is the prompt's last one, whose keys and values are there already.
            self._rows.append(_Row(asked, list(context), len(context), length - 1, branch.position - 1, own))
            states.append(branch.state)
        first = self.rows - len(entering)
        last = torch.stack(states)
        packing = Packing(len(entering), 1, None)
        return self._write(first, Step(last, packing, len(entering)), [[]] * len(entering))

    def advance(self) -> list[_Row]:
        """Write at least one token in every row; returns the rows that end, which leave."""
        guesses = [self._guess(row) for row in self._rows]
        step = self._decoder.step(
            [[row.context[-1], *guess] for row, guess in zip(self._rows, guesses, strict=True)],
            [row.length for row in self._rows],
            [row.position for row in self._rows],
        )
        return self._write(0, step, guesses)

    def _guess(self, row: _Row) -> list[int]:
        if row.numbers is not None:
            return []
        written = len(row.context) - row.prompt
        # The last token of an answer needs no guess behind it.
        return self._drafts.guess(row.context, self._limits[row.asked.task] - written - 1)

    def _write(self, first: int, step: Step, guesses: Sequence[Sequence[int]]) -> list[_Row]:
        """Add to each row from ``first`` on what the model says, as far as the guesses were right."""
        says = self._choose(first, step).tolist()
        ended = []
        for number, (row, guess) in enumerate(zip(self._rows[first:], guesses, strict=True), start=first):
            before = len(row.context)
            for place in range(len(guess) + 1):
                token = says[number - first][place]
                row.context.append(token)
                if self._is_over(row) or place == len(guess) or guess[place] != token:
                    break
            row.length += len(row.context) - before
            row.position += len(row.context) - before
            self._drafts.learn(row.context, before)
            if self._is_over(row):
                ended.append(number)
        return self._leave(ended) if ended else []

    def _is_over(self, row: _Row) -> bool:
        return row.context[-1] == self._end or len(row.context) - row.prompt == self._limits[row.asked.task]

    def _choose(self, first: int, step: Step) -> Tensor:
        """Token ids [rows, width]: the likeliest ones, drawn ones in the first place of rows that are sampled."""
        tokens = step.by_row(self._logits(step.states).argmax(dim=-1))
        sampled = [number for number, row in enumerate(self._rows[first:]) if row.numbers is not None]
        if sampled:
            rows = [self._rows[first + number] for number in sampled]
            logits = self._logits(step.by_row(step.states)[sampled, 0])
            numbers = torch.stack([row.numbers[len(row.context) - row.prompt] for row in rows]).to(logits.device)
            settings = self._parameters
            tokens[sampled, 0] = drawn(logits, numbers, settings.retry_temperature, settings.retry_top_p)
        return tokens

    def _leave(self, ended: Sequence[int]) -> list[_Row]:
        left = [self._rows[number] for number in ended]
        remaining, gone = self.rows - len(ended), set(ended)
        holes = [number for number in ended if number < remaining]
        movers = [number for number in range(remaining, self.rows) if number not in gone]
        if holes:
            device = self._cache.store.device
            used = max(self._rows[number].length for number in movers)
            self._cache.move(torch.tensor(holes, device=device), torch.tensor(movers, device=device), used)
        for hole, mover in zip(holes, movers, strict=True):
            self._rows[hole] = self._rows[mover]
        del self._rows[remaining:]
        return left
