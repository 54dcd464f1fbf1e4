"""The objective of preference optimisation, from hidden states, and the reference that it holds the student to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mulcot_rd.distributed import ALONE, Group
from mulcot_rd.files import replace_file
from mulcot_rd.models import TrainedModel
from mulcot_rd.preference.batches import PAIRS, PairBatch
from mulcot_rd.training.batches import Batch
from mulcot_rd.training.distributions import rows_at_once
from mulcot_rd.training.forward import OutputHead, output_head, target_states
from mulcot_rd.training.parameters import PreferenceTrainingParameters
from mulcot_rd.training.preference_loss import preference_loss

_ANSWERS: tuple[Any, ...] = ("chosen", "rejected")
_PAIR_TERMS = ("preference_loss", "chosen_reward", "rejected_reward", "reward_margin", "reward_accuracy")


@dataclass(frozen=True)
class PreferenceObjective:
    """The preference loss, the cross-entropy of the chosen reasoning, and that of the label, weighted.

    The first is a mean over the window's pairs, the others over the window's target tokens: so micro-batches of any
    size add up to the same.

    Attributes:
        model: The model in training.
        parameters: Weights and kind of the loss.
        vocabulary_size: Token ids that the tokenizer really has.
    """

    model: TrainedModel
    parameters: PreferenceTrainingParameters
    vocabulary_size: int

    def __call__(self, batch: PairBatch, window_tokens: Mapping[str, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """One micro-batch's share of its window's loss, and of the window's terms."""
        parameters = self.parameters
        tokens = branch_log_probs(self.model, batch, self.vocabulary_size)
        whole = answer_sums(batch, tokens)
        log_ratios = whole - batch.reference.to(whole)
        lengths = answer_sums(batch, {name: torch.ones_like(values) for name, values in tokens.items()})
        losses = preference_loss(log_ratios, lengths, parameters.beta, parameters.loss_type)
        rewards = parameters.beta * log_ratios.detach()
        margins = rewards[:, 0] - rewards[:, 1]
        of_pairs = (losses, rewards[:, 0], rewards[:, 1], margins, (margins > 0).to(margins))
        terms = {name: values.sum() / window_tokens[PAIRS] for name, values in zip(_PAIR_TERMS, of_pairs, strict=True)}
        terms["reasoning_loss"] = -tokens["chosen"].sum() / window_tokens["chosen"]
        total = terms["preference_loss"] + parameters.rpo_alpha * terms["reasoning_loss"]
        if "label" in tokens:
            terms["label_loss"] = -tokens["label"].sum() / window_tokens["label"]
            total = total + parameters.label_weight * terms["label_loss"]
        return total, terms

    def terms(self, tasks: Sequence[str]) -> list[str]:
        """Names of the terms where pairs have these branches."""
        return [*_PAIR_TERMS, "reasoning_loss", *(["label_loss"] if "label" in tasks else [])]


def branch_log_probs(model: TrainedModel, batch: Batch, vocabulary_size: int) -> dict[str, Tensor]:
    """The log-probability of each target token [N] of each branch."""
    states, head = target_states(model, batch), output_head(model).cut(vocabulary_size)
    return {name: token_log_probs(head, values, batch.targets[name]) for name, values in states.items()}


def token_log_probs(head: OutputHead, states: Tensor, targets: Tensor, chunk_rows: int | None = None) -> Tensor:
    """Log-probabilities of N target tokens, of which only a few have their logits in memory at one time.

    In the backward pass the logits of a chunk are computed once more.

    Args:
        head: The model's output head.
        states: Hidden states [N, H] that predict the targets.
        targets: Token ids [N].
        chunk_rows: Positions whose logits are held; by default :func:`rows_at_once`.

    Returns:
        [N], float32 or wider.
    """
    rows = chunk_rows or rows_at_once(len(head.weight), states.device)
    targets = targets.to(states.device)
    parts = [
        checkpoint(_log_probs, head, states[at : at + rows], targets[at : at + rows], use_reentrant=False)
        for at in range(0, len(states), rows)
    ]
    return torch.cat(parts)


def _log_probs(head: OutputHead, states: Tensor, targets: Tensor) -> Tensor:
    logits = head.logits(states)
    # Reduced precision is for the models: probabilities over a vocabulary are summed in float32 at least.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -F.cross_entropy(logits, targets, reduction="none")


def answer_sums(batch: Batch, tokens: Mapping[str, Tensor]) -> Tensor:
    """Sums over the tokens of the chosen and the rejected answer of each of the batch's B pairs: [B, 2]."""
    pairs = len(batch.input_ids)
    sums = []
    for name in _ANSWERS:
        rows = batch.predictors[name][0].to(tokens[name].device)
        sums.append(tokens[name].new_zeros(pairs).index_add(0, rows, tokens[name]))
    return torch.stack(sums, dim=1)


@torch.no_grad()
def reference_log_probs(
    model: TrainedModel,
    pairs: int,
    prepare: Callable[[Sequence[int]], Batch],
    vocabulary_size: int,
    *,
    batch_size: int,
    file: Path,
    group: Group = ALONE,
) -> Tensor:
    """Log-probabilities of the chosen and the rejected answer of every pair [P, 2] by the model as it is now.

    They are computed before the first step, by the model that is then trained: there is never a second one. A training
    that goes on reads them.

    Args:
        model: The model before its first step, without dropout.
        pairs: How many pairs there are.
        prepare: Makes the batch of some of them, named by their indices.
        vocabulary_size: Token ids that the tokenizer really has.
        batch_size: Pairs of a batch.
        file: Where they are kept.
        group: The processes, which share the batches.
    """
    if not group.broadcast(file.exists() if group.is_first else None):
        batches = [range(start, min(start + batch_size, pairs)) for start in range(0, pairs, batch_size)]
        own = list(group.share(batches))
        # With sharded weights all processes run equally many passes: who has none left runs one for nothing.
        if len(own) * group.size < len(batches):
            own.append(batches[0])
        found = {}
        for batch in own:
            pairs_at_hand = prepare(batch)
            tokens = branch_log_probs(model, pairs_at_hand, vocabulary_size)
            found[batch.start] = answer_sums(pairs_at_hand, tokens).tolist()
        gathered = {start: values for each in group.gather(found) for start, values in each.items()}
        if group.is_first:
            rows = [row for start in sorted(gathered) for row in gathered[start]]
            values = torch.tensor(rows, dtype=torch.float64)
            replace_file(file, lambda path: save_file({"reference": values}, path))
        group.barrier()
    return load_file(file)["reference"]
