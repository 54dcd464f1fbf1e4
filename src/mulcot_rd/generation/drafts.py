"""Guesses at the next tokens of an answer, from the answers that the same model wrote before.

Answers of one model to one prompt form share much of their wording, their section keys at the very least. A guess costs
little: the model checks several tokens in one step and keeps those that it would have written itself, so the texts are
the same as without guessing (greedy speculative decoding, with a table in place of a smaller model).
"""

from collections.abc import Sequence

# Lengths of the contexts that a guess is looked up by, the longest that is known decides. A long one tells which of
# some ways to go on this answer takes, a short one knows what stands behind names that were never seen.
CONTEXTS = (7, 3)


class _Followers:
    """What followed a context: how often each token did, and which one most often."""

    __slots__ = ("best", "counts", "total")

    def __init__(self) -> None:
        self.total, self.best, self.counts = 0, -1, {}

    def add(self, token: int) -> None:
        count = self.counts[token] = self.counts.get(token, 0) + 1
        self.total += 1
        # Of equally frequent tokens the newest one.
        if count >= self.counts.get(self.best, 0):
            self.best = token


class Drafts:
    """A table of what followed which tokens.

    Args:
        tokens: Tokens of a guess at most.
        confidence: A guess ends where the estimated probability that all of it is right falls below this.
    """

    def __init__(self, tokens: int, confidence: float = 0.5) -> None:
        self._tokens, self._confidence = tokens, confidence
        self._table: dict[tuple[int, ...], _Followers] = {}

    def learn(self, sequence: Sequence[int], start: int) -> None:
        """Take in the tokens from ``start`` on, each with what stands before it."""
        if not self._tokens:
            return
        for index in range(start, len(sequence)):
            for length in CONTEXTS:
                if index >= length:
                    context = tuple(sequence[index - length : index])
                    followers = self._table.get(context)
                    if followers is None:
                        followers = self._table[context] = _Followers()
                    followers.add(sequence[index])

    def guess(self, sequence: Sequence[int], limit: int) -> list[int]:
        """The tokens that probably come next, at most ``limit``."""
        recent, probability = list(sequence[-CONTEXTS[0] :]), 1.0
        guessed: list[int] = []
        while len(guessed) < min(limit, self._tokens):
            followers = self._followers(recent)
            if followers is None:
                break
            # Half a count for what was never seen: one observation alone is no certainty.
            probability *= followers.counts[followers.best] / (followers.total + 0.5)
            if probability < self._confidence:
                break
            guessed.append(followers.best)
            recent.append(followers.best)
        return guessed

    def _followers(self, recent: Sequence[int]) -> _Followers | None:
        for length in CONTEXTS:
            followers = self._table.get(tuple(recent[-length:]))
            if followers is not None:
                return followers
        return None
