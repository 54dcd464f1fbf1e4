"""Soft labels: bytes a target token, and how far compact ones are from exact ones.

The error is that of the student's soft loss (Eq. 11) relative to the exact one. The student is one that has nearly
learned: the assistant itself with noise on its states. Random weights have flatter distributions than trained ones, and
small vocabularies shorter tails; docs/benchmarks.md has the same figures for a trained language model.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from mulcot_rd.training.distributions import Distributions, ExactDistributions
from mulcot_rd.training.soft_labels import SoftLabels
from settings import SCALES, Setting
from timing import row

KEPT = (16, 64, 256)
TEMPERATURE = 2.0
_ROWS = 64


def rows(scratch: Path, repetitions: int) -> Iterator[dict]:
    """Size and error at both scales, for each number of ids kept; nothing is timed, so nothing is repeated."""
    for scale in SCALES:
        setting = Setting(scale, scratch / scale)
        assistant = setting.role("assistant")
        examples = setting.examples(assistant)
        tokens = sum(len(ids) for example in examples for ids in example.targets.values())
        exact = setting.soft_labels(assistant, examples, kind="exact")
        exact_bytes = _shard_bytes(exact) / tokens
        distributions = _reasonings(exact, examples)
        for top_k in KEPT:
            compact = setting.soft_labels(assistant, examples, kind="compact", top_k=top_k)
            size = _shard_bytes(compact) / tokens
            error, _ = errors(distributions, _reasonings(compact, examples), student_logits(distributions, noise=0.3))
            name = f"exact, last hidden states; ours keeps the top {top_k} and the rest of the mass"
            yield row("soft_label_bytes_per_token", scale, size, exact_bytes, name, "bytes", 1)
            yield row("soft_label_kl_error", scale, error, 0.0, name, "relative", 1)


def student_logits(exact: ExactDistributions, noise: float) -> torch.Tensor:
    """Logits of a student that has nearly learned: the assistant's own from states with noise of that relative size."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(exact.states.shape, generator=generator) * exact.states.std() * noise
    return F.linear(exact.states + drawn, exact.weight, exact.bias)


def errors(exact: Distributions, compact: Distributions, logits: torch.Tensor) -> tuple[float, float]:
    """Relative error of the mean divergence, and of its gradient with respect to the student's logits."""
    sums = torch.zeros(4, dtype=torch.float64)
    for start in range(0, len(logits), _ROWS):
        rows_ = slice(start, start + _ROWS)
        whole, one = _divergence(exact[rows_], logits[rows_])
        kept, other = _divergence(compact[rows_], logits[rows_])
        sums += torch.stack([one, other, whole.square().sum(), (kept - whole).square().sum()])
    return float((sums[1] / sums[0] - 1).abs()), float((sums[3] / sums[2]).sqrt())


def _divergence(assistant: Distributions, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient with respect to the logits, and the divergence, of some positions."""
    leaf = logits.double().requires_grad_()
    soft = assistant.divergence(leaf, TEMPERATURE).sum()
    return torch.autograd.grad(soft, leaf)[0], soft.detach()


def _reasonings(stored: SoftLabels, examples: list) -> Distributions:
    return stored.distributions(range(len(examples)), examples, torch.device("cpu"))["reasoning"]


def _shard_bytes(stored: SoftLabels) -> int:
    return sum(path.stat().st_size for path in stored.folder.glob("shard-*.safetensors"))
