"""Scores of the labels after the label prompt: the log-probability of each label's answer, as training writes it.

The three answers are branches behind one prefix, so a post costs one forward pass. Each is scored whole, so it does not
matter in how many tokens a tokenizer writes a label.
"""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from mulcot_rd.models.branches import branch_rows
from mulcot_rd.models.forward import read
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.reasoning import write_label
from mulcot_rd.schema import PostContent, Sentiment

# Log-probabilities of the answers, in the order of Sentiment.
LabelScores = list[float]

# Posts of one pass.
POSTS_A_PASS = 16


def label_scores(base: PreTrainedModel, encoder: InputEncoder, posts: Sequence[PostContent]) -> list[LabelScores]:
    """Score the answers to the label prompt.

    Args:
        base: The family's model, in evaluation mode.
        encoder: Makes its inputs, as in training.
        posts: The posts.

    Returns:
        For each post the log-probability of each label's whole answer, the end of the turn included.
    """
    passes = [posts[start : start + POSTS_A_PASS] for start in range(0, len(posts), POSTS_A_PASS)]
    return [scores for part in passes for scores in _one_pass(base, encoder, part)]


@torch.no_grad()
def _one_pass(base: PreTrainedModel, encoder: InputEncoder, posts: Sequence[PostContent]) -> list[LabelScores]:
    answers = [encoder.target(write_label(label), "label") for label in Sentiment]
    prompts = [encoder.prompt(post, "label") for post in posts]
    branches = [[prompt.suffix + answer for answer in answers] for prompt in prompts]
    rows, begins = branch_rows([prompt.prefix for prompt in prompts], branches, [post.image for post in posts], encoder)
    states, _ = read(base, rows)
    scores = []
    for row, (prompt, starts) in enumerate(zip(prompts, begins, strict=True)):
        # The state before a token predicts it.
        first = [start + len(prompt.suffix) - 1 for start in starts]
        places = [place + step for place, answer in zip(first, answers, strict=True) for step in range(len(answer))]
        logits = base.lm_head(states[row, places])[:, : len(encoder.tokenizer)].float()
        targets = torch.tensor([token for answer in answers for token in answer], device=logits.device)
        written = logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0].cpu()
        scores.append([float(piece.sum()) for piece in written.split([len(answer) for answer in answers])])
    return scores


def probabilities(scores: LabelScores, temperature: float = 1.0) -> dict[Sentiment, float]:
    """Probabilities of the labels: the softmax of their scores.

    Args:
        scores: Of one post.
        temperature: Divides the scores; 1 leaves the model's own probabilities.
    """
    highest = max(scores)
    masses = [math.exp((score - highest) / temperature) for score in scores]
    return {label: mass / sum(masses) for label, mass in zip(Sentiment, masses, strict=True)}
