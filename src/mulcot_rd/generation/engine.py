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
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post

# Posts of one prefill at most, and no more than have rows: enough to fill the processor, few enough that masks and what
# waits for a row stay small.
_PREFILL_POSTS = 16


@dataclass
class _Row:
    """An answer in the making.

    Attributes:
        branch: The prompt that it answers; what was read of it is in the KV cache.
        attempt: Number of the answer, from 1.
        generator: Draws the tokens of a retry; ``None`` for a greedy answer.
        written: Tokens of the answer so far.
    """

    branch: Branch
    attempt: int = 1
    generator: torch.Generator | None = None
    written: list[int] = field(default_factory=list)

    def next_input(self) -> tuple[int, int, int]:
        """The token that the next step reads, the number of tokens before it, and its rotary position."""
        token, length, position = self.branch.last
        count = len(self.written)
        # The prompt's last token is read once more: prefill makes no logits.
        return self.written[-1] if count else token, length + count, position + count


class Engine:
    """Writes answers to the prompts of posts.

    What happens when is a function of the posts, the model and the parameters: the same posts give the same texts.

    Args:
        base: The family's model, in evaluation mode.
        encoder: Makes its inputs, as in training.
        parameters: Rows, lengths, retries.
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

    @torch.no_grad()
    def answer(self, posts: Sequence[Post], prompts: Mapping[str, Mapping[Task, Prompt]]) -> Iterator[Answer]:
        """Answer every task of every post, with retries (Appendix E).

        Args:
            posts: The posts, in the order in which they are read.
            prompts: Post id to the prompts of its tasks, the same tasks for all posts.

        Yields:
            Each answer as it ends; those to one prompt in the order of their attempts.
        """
        if not posts:
            return
        tasks = len(prompts[posts[0].id])
        rows: list[_Row | None] = [None] * min(self._parameters.batch_size, tasks * len(posts))
        together = min(_PREFILL_POSTS, max(1, len(rows) // tasks))
        waiting, ready = deque(posts), deque[Branch]()
        decoder: Decoder | None = None
        while waiting or ready or any(rows):
            free = [number for number, row in enumerate(rows) if row is None]
            # Whole groups, also where fewer rows are free: what is left over enters as soon as others leave.
            while waiting and len(ready) < len(free):
                group = [waiting.popleft() for _ in range(min(together, len(waiting)))]
                ready.extend(prefill(self._base, self._encoder, group, prompts))
            decoder = decoder or self._decoder(ready[0], len(rows), [prompts[post.id] for post in posts])
            for number in free[: len(ready)]:
                branch = ready.popleft()
                decoder.enter(number, branch)
                rows[number] = _Row(branch._replace(keys_values=None, cross=None))
            logits = decoder.step([row and row.next_input() for row in rows])
            for number, token in enumerate(self._choose(rows, logits)):
                row = rows[number]
                answer = row and self._write(row, token)
                if row and answer:
                    last = answer.is_last(self._parameters.max_retries)
                    rows[number] = None if last else self._retry(row)
                    yield answer

    def _decoder(self, like: Branch, rows: int, prompts: Sequence[Mapping[Task, Prompt]]) -> Decoder:
        """A decoder with room for the longest of these prompts and its answer."""
        every = [(task, prompt) for own in prompts for task, prompt in own.items()]
        apart = self._encoder.family.encoder_decoder
        columns = max(len(prompt.ending if apart else prompt.ids) for _, prompt in every)
        columns += max(self._parameters.length(task) for task, _ in every)
        encoded = max(len(prompt.opening) for _, prompt in every)
        return Decoder(
            self._base, self._encoder, like, rows=rows, columns=columns, encoded=encoded, static=self._static
        )

    def _retry(self, row: _Row) -> _Row:
        """The next attempt in the same row; its seed is its own, so no row depends on those beside it."""
        attempt = row.attempt + 1
        seed = int(fingerprint((self._seed, row.branch.post_id, row.branch.task, attempt))[:15], 16)
        return _Row(row.branch, attempt, torch.Generator().manual_seed(seed))

    def _choose(self, rows: Sequence[_Row | None], logits: Tensor) -> list[int]:
        """The next token of each row: the likeliest one, or a sampled one in a retry."""
        tokens = logits.argmax(dim=-1)
        drawing = {number: row.generator for number, row in enumerate(rows) if row and row.generator}
        if drawing:
            numbers = torch.cat([torch.rand(1, generator=generator) for generator in drawing.values()])
            settings = self._parameters
            tokens[list(drawing)] = sample(
                logits[list(drawing)], numbers.to(logits.device), settings.retry_temperature, settings.retry_top_p
            )
        return tokens.tolist()

    def _write(self, row: _Row, token: int) -> Answer | None:
        """Add a token to a row; returns the answer that ends with it, or ``None``."""
        row.written.append(token)
        task, post_id = row.branch.task, row.branch.post_id
        finished = token == self._encoder.tokenizer.eos_token_id
        if not finished and len(row.written) < self._parameters.length(task):
            return None
        return Answer(task, post_id, row.attempt, self._encoder.answer(row.written, task), finished)


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
