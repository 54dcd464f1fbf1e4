"""The preference loss in plain form: of a pair, the chosen reasoning is to gain on the rejected one.

Rafailov et al. (2023), *Direct Preference Optimization*, Eq. 7 (``sigmoid``); Azar et al. (2023), *A General
Theoretical Paradigm to Understand Learning from Human Preferences*, Eq. 17 (``ipo``). Names and values are those of
TRL's DPOTrainer.
"""

from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from torch import Tensor

LossType = Literal["sigmoid", "sigmoid_norm", "ipo"]


def preference_loss(log_ratios: Tensor, lengths: Tensor, beta: float, loss_type: LossType) -> Tensor:
    """The loss of each of P pairs, in nats (``ipo``: squared nats a token).

    Args:
        log_ratios: [P, 2], log of policy over reference for the whole answer, a sum over its tokens; the chosen first.
        lengths: Target tokens of each answer [P, 2].
        beta: How much a log-ratio counts: the smaller, the further the policy may go from the reference.
        loss_type: ``sigmoid`` is DPO; ``sigmoid_norm`` the same on log-ratios a token, for which length is no
            reward; ``ipo`` aims at a difference of 1 / (2 beta) a token and does not go on beyond it.

    Returns:
        [P]. Equal log-ratios give log 2, with ``ipo`` (1 / (2 beta)) squared.
    """
    if loss_type == "sigmoid":
        return -F.logsigmoid(beta * _difference(log_ratios))
    by_token = _difference(log_ratios / lengths)
    if loss_type == "sigmoid_norm":
        return -F.logsigmoid(beta * by_token)
    return (by_token - 1 / (2 * beta)) ** 2


def _difference(values: Tensor) -> Tensor:
    return values[:, 0] - values[:, 1]
