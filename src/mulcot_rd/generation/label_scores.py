"""Scores of the labels after the label prompt: the log-probability of each label's answer, as training writes it.

The three answers are branches behind one prefix, so a post costs one forward pass. Each is scored whole, so it does not
matter in how many tokens a tokenizer writes a label.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from mulcot_rd.distributed import ClusterParameters, Group, Job, launch
from mulcot_rd.files import write_json
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation.answers import encode, units
from mulcot_rd.generation.trained import prompts_fingerprint
from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.branches import branch_rows
from mulcot_rd.models.forward import read
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import load_encoder, load_model
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.progress import progress
from mulcot_rd.reasoning import write_label
from mulcot_rd.schema import PostContent, Sentiment

# Log-probabilities of the answers, in the order of Sentiment.
LabelScores = list[float]

# Posts of one pass.
_POSTS = 16


@torch.no_grad()
def label_scores(base: PreTrainedModel, encoder: InputEncoder, posts: Sequence[PostContent]) -> list[LabelScores]:
    """Score the answers to the label prompt.

    Args:
        base: The family's model, in evaluation mode.
        encoder: Makes its inputs, as in training.
        posts: The posts, read together.

    Returns:
        For each post the log-probability of each label's whole answer, the end of the turn included.
    """
    answers = [encoder.target(write_label(label), "label") for label in Sentiment]
    prompts = [encoder.prompt(post, "label") for post in posts]
    branches = [[prompt.ending + answer for answer in answers] for prompt in prompts]
    rows, begins = branch_rows(
        [prompt.opening for prompt in prompts], branches, [post.image for post in posts], encoder
    )
    states, _ = read(base, rows)
    scores = []
    for row, (prompt, starts) in enumerate(zip(prompts, begins, strict=True)):
        # The state before a token predicts it.
        first = [start + len(prompt.ending) - 1 for start in starts]
        places = [place + step for place, answer in zip(first, answers, strict=True) for step in range(len(answer))]
        logits = base.lm_head(states[row, places])[:, : len(encoder.tokenizer)].float()
        targets = torch.tensor([token for answer in answers for token in answer], device=logits.device)
        written = logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0].cpu()
        scores.append([float(piece.sum()) for piece in written.split([len(answer) for answer in answers])])
    return scores


def score_posts(base: PreTrainedModel, encoder: InputEncoder, posts: Sequence[PostContent]) -> list[LabelScores]:
    """:func:`label_scores` of any number of posts."""
    parts = [posts[start : start + _POSTS] for start in range(0, len(posts), _POSTS)]
    return [scores for part in parts for scores in label_scores(base, encoder, part)]


def probabilities(scores: LabelScores, temperature: float = 1.0) -> dict[Sentiment, float]:
    """Probabilities of the labels: the softmax of their scores.

    Args:
        scores: Of one post.
        temperature: Divides the scores; 1 leaves the model's own probabilities.
    """
    highest = max(scores)
    masses = [math.exp((score - highest) / temperature) for score in scores]
    return {label: mass / sum(masses) for label, mass in zip(Sentiment, masses, strict=True)}


class LabelScoresJob(Job):
    """Scores of the labels, each unit of posts in a file of its own.

    Attributes:
        name: Names the work on the progress bar.
        adapter: The trained model's folder.
        backbone: The model before training, and how it computes.
        units: File to the posts whose scores it gets.
    """

    name: str
    adapter: Path
    backbone: BackboneParameters
    units: dict[Path, list[PostContent]]

    def run(self, group: Group) -> None:
        """Write this process's share."""
        trained = load_model(self.adapter, self.backbone)
        model = without_adapter(trained.model).eval()
        share = group.share(list(self.units.items()))
        total = sum(len(posts) for _, posts in share)
        with progress(total=total, desc=self.name, unit="post", disable=not group.is_first) as bar:
            for path, posts in share:
                write_json(path, score_posts(model, trained.encoder, posts))
                bar.update(len(posts))


def trained_label_scores(
    name: str,
    adapter: Path,
    backbone: BackboneParameters,
    posts: Sequence[PostContent],
    *,
    weights: str,
    folder: Path,
    cluster: ClusterParameters,
) -> list[LabelScores]:
    """Let a trained model score the labels of every post; what an interrupted run had scored is not scored again.

    Args:
        name: Names the work on the progress bar.
        adapter: The trained model's folder.
        backbone: Where the model before training lies now, and how it computes.
        posts: The posts; scores come back in their order.
        weights: What tells the model's weights from others.
        folder: Where finished scores are kept.
        cluster: Where the model computes.
    """
    encoder = load_encoder(adapter, backbone)
    prompts = encode(encoder, posts, ["label"])
    kept = folder / fingerprint(weights, prompts_fingerprint(encoder, posts, prompts))[:12]
    cut = {kept / f"scores-{number:05}.json": unit for number, unit in enumerate(units(posts, prompts, _POSTS))}
    missing = {path: unit for path, unit in cut.items() if not path.is_file()}
    if missing:
        job = LabelScoresJob(name=name, adapter=adapter, backbone=backbone, units=missing)
        launch(job, cluster, kept / "job", cluster.parts(len(missing), sum(map(len, missing.values()))))
    found = {
        post.id: scores
        for path, unit in cut.items()
        for post, scores in zip(unit, json.loads(path.read_text(encoding="utf-8")), strict=True)
    }
    return [found[post.id] for post in posts]
