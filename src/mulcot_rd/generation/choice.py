"""Which token a row writes next: the likeliest one, or one drawn from its own numbers."""

import numpy as np
import torch
from torch import Tensor

from mulcot_rd.fingerprint import fingerprint


def draws(key: object, count: int) -> np.ndarray:
    """``count`` numbers in [0, 1) that depend on ``key`` alone, one for each token that may be drawn.

    A row's numbers are its own, so what it draws does not depend on which rows are decoded beside it.
    """
    return np.random.default_rng(int(fingerprint(key), 16)).random(count, dtype=np.float32)


def drawn(logits: Tensor, numbers: Tensor, temperature: float, top_p: float) -> Tensor:
    """Tokens drawn from the likeliest ones that together have the probability ``top_p`` (nucleus sampling).

    Args:
        logits: [rows, V].
        numbers: In [0, 1), one a row: where in the nucleus's probability mass its token lies.
        temperature: Divides the logits.
        top_p: Probability mass of the nucleus; the token that reaches it belongs to it.

    Returns:
        Token ids [rows].
    """
    probabilities, ids = (logits.float() / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    mass = probabilities.cumsum(dim=-1)
    nucleus = (mass - probabilities < top_p).sum(dim=-1, keepdim=True)
    wanted = numbers[:, None] * mass.gather(1, nucleus - 1)
    place = torch.minimum((mass <= wanted).sum(dim=-1, keepdim=True), nucleus - 1)
    return ids.gather(1, place)[:, 0]
