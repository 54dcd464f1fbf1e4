"""The training loop that assistant and student share: accumulation, schedule, early end, exact resume."""

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from mulcot_rd.distributed import ALONE, Group
from mulcot_rd.errors import UserError
from mulcot_rd.files import empty_folder, read_text, write_text
from mulcot_rd.kept import file_hashes
from mulcot_rd.models import TrainedModel
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Batch, Example, micro_batches, windows
from mulcot_rd.training.checkpoints import Checkpoints, TrainingState, check_training_files
from mulcot_rd.training.gradient_sum import GradientSum
from mulcot_rd.training.parameters import OptimisationParameters
from mulcot_rd.training.prefetch import ahead

logger = logging.getLogger(__name__)

HISTORY = "history.jsonl"


class TrainingError(UserError):
    """A training that can't go on, since its loss or gradient is not finite."""


@dataclass(frozen=True)
class TrainingOutcome:
    """How a training went.

    Attributes:
        best_folder: Folder of the best epoch's adapter, in peft's layout.
        best_epoch: That epoch, counted from 1.
        best_score: Its score on the dev split.
        history: One row a step (losses) and one an epoch (score, learning rate).
    """

    best_folder: Path
    best_epoch: int
    best_score: float
    history: list[dict[str, Any]]


class Objective(Protocol):
    """What a model is trained for."""

    def __call__(self, batch: Any, window_tokens: Mapping[Any, int]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """A micro-batch's share of its window's loss, and the loss's terms by name.

        ``batch`` is what ``prepare`` makes, ``window_tokens`` are the sums of :attr:`Example.counts` over the window.
        """

    def terms(self, tasks: Sequence[Task]) -> list[str]:
        """Names of the terms where these tasks are learned."""


class Trainer:
    """Trains one adapter in a group of processes, and goes on exactly where it was killed.

    Each process computes its share of a window's micro-batches; all make the same step. Rank 0 alone writes.

    Args:
        name: "assistant" or "student", for progress and logs.
        model: The model with its adapter; every process has the same.
        objective: Gives the loss of a micro-batch.
        prepare: Makes the micro-batch of some rows, named by their indices; a thread runs it ahead of its use.
        examples: The training rows.
        validate: Scores the model on the dev split, the same in all processes; is told the number of steps done. Its
            ``score`` chooses the epoch, all it gives goes into the history.
        parameters: Optimiser, schedule and batches.
        seed: Of order and dropout.
        folder: Where checkpoints, history and the best adapter are kept meanwhile; all processes see it.
        fingerprint: Of everything that determines the result; work of another fingerprint is not continued.
        group: The processes.
        gradient_dtype: Type in which gradients are added up.
        sharded: Whether frozen weights are sharded over the processes, so that all must run equally many passes.
    """

    def __init__(
        self,
        *,
        name: str,
        model: TrainedModel,
        objective: Objective,
        prepare: Callable[[Sequence[int]], Batch],
        examples: Sequence[Example],
        validate: Callable[[int], Mapping[str, float]],
        parameters: OptimisationParameters,
        seed: int,
        folder: Path,
        fingerprint: str,
        group: Group = ALONE,
        gradient_dtype: torch.dtype = torch.float64,
        sharded: bool = False,
    ) -> None:
        self.name = name
        self.model = model
        self.objective = objective
        self.prepare = prepare
        self.examples = examples
        self.validate = validate
        self.parameters = parameters
        self.seed = seed
        self.folder = folder
        self.group = group
        self.sharded = sharded
        self.checkpoints = Checkpoints(folder / "checkpoint")
        self._lengths = [example.length for example in examples]
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._sum = GradientSum(self._trained, objective.terms(list(examples[0].targets)), group, gradient_dtype)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(model, parameters.lr_factors),
            lr=parameters.learning_rate,
            weight_decay=parameters.weight_decay,
            fused=True,
        )
        self.state = self._begin(fingerprint)

    def run(self) -> TrainingOutcome | None:
        """Train to the end; returns the best epoch's adapter at rank 0."""
        if self.group.is_first and self.parameters.warmup_steps >= self._steps:
            said = "%s: the warm-up of %d steps is as long as the training (%d steps): the learning rate never falls"
            logger.warning(said, self.name, self.parameters.warmup_steps, self._steps)
        while not self.state.finished:
            self._epoch()
        if not self.group.is_first:
            return None
        if self.state.best_epoch is None or self.state.best_score is None:
            raise RuntimeError("training ended without a scored epoch")
        check_training_files(self.folder / "best", self.state.best_files)
        return TrainingOutcome(self.folder / "best", self.state.best_epoch + 1, self.state.best_score, self._history())

    def _windows(self, epoch: int) -> list[list[int]]:
        parameters = self.parameters
        return windows(self._lengths, parameters.batch_size * parameters.gradient_accumulation_steps, self.seed, epoch)

    def _begin(self, fingerprint: str) -> TrainingState:
        state = self.group.broadcast(self._found(fingerprint) if self.group.is_first else None)
        if state is None:
            return TrainingState(fingerprint=fingerprint, learning_rate=self.parameters.learning_rate)
        self.checkpoints.restore(state, self.model, self.optimizer)
        return state

    def _found(self, fingerprint: str) -> TrainingState | None:
        """Where a training of this fingerprint stood, with its history cut back to it."""
        state = self.checkpoints.state(fingerprint)
        if state is None:
            if self.folder.exists() and any(self.folder.iterdir()):
                logger.info("%s: %s holds no checkpoint to go on from; starting anew", self.name, self.folder)
            empty_folder(self.folder)
            return None
        logger.info("%s: going on at epoch %d, step %d", self.name, state.epoch + 1, state.step)
        kept = [
            row
            for row in self._history()
            if row["step"] <= state.step and ("score" not in row or row["epoch"] <= state.epoch)
        ]
        write_text(self._history_file, "".join(json.dumps(row) + "\n" for row in kept))
        return state

    def _epoch(self) -> None:
        state, parameters = self.state, self.parameters
        order = self._windows(state.epoch)
        started = time.monotonic()
        bar = progress(
            total=len(self.examples),
            initial=sum(len(window) for window in order[: state.window]),
            desc=f"{self.name}, epoch {state.epoch + 1} of at most {parameters.epochs}",
            unit="row",
            disable=not self.group.is_first,
        )
        saved = started
        self.model.train()
        to_come = chain.from_iterable(self._own(self._cut(window)) for window in order[state.window :])
        batches = ahead(self.prepare, to_come)
        with bar, closing(batches):
            while state.window < len(order):
                window = order[state.window]
                terms = self._step(window, batches)
                state.window += 1
                state.step += 1
                self._record({"epoch": state.epoch + 1, "step": state.step, **terms})
                if state.window == len(order) or time.monotonic() - saved >= 60 * parameters.checkpoint_minutes:
                    self._save()
                    saved = time.monotonic()
                bar.update(len(window))
                bar.set_postfix({name: f"{value:.3f}" for name, value in terms.items()}, refresh=False)
        self._finish_epoch(time.monotonic() - started)

    def _cut(self, window: Sequence[int]) -> list[Sequence[int]]:
        """The window's micro-batches."""
        parameters = self.parameters
        return list(micro_batches(window, parameters.batch_size, self._lengths, parameters.batch_tokens))

    def _own(self, cut: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """Those of a window's micro-batches that this process computes.

        With sharded weights all processes run equally many: who has none left runs the first once more, for nothing.
        """
        own = list(self.group.share(cut))
        return [*own, cut[0]] if self.sharded and len(own) * self.group.size < len(cut) else own

    def _step(self, window: Sequence[int], batches: Iterator[Batch]) -> dict[str, float]:
        """One optimiser step over a window; returns the window's loss terms."""
        counts: Counter[str] = Counter()
        for index in window:
            counts.update(self.examples[index].counts)
        cut = self._cut(window)
        self._sum.clear()
        for place in range(len(self._own(cut))):
            number = place * self.group.size + self.group.rank
            # Dropout draws from the micro-batch, whoever computes it.
            torch.manual_seed(hash((self.seed, self.state.step, number)) % (1 << 63))
            total, terms = self.objective(next(batches), counts)
            if number < len(cut):
                total.backward()
                self._sum.add(terms)
            else:
                (total * 0).backward()
                self.optimizer.zero_grad(set_to_none=True)
        losses = self._sum.reduce()
        for options in self.optimizer.param_groups:
            options["lr"] = self._rate() * options["factor"]
        norm = torch.nn.utils.get_total_norm(p.grad for p in self._trained if p.grad is not None)
        self._check_finite({**losses, "gradient norm": float(norm)}, window)
        if self.parameters.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._trained, self.parameters.max_grad_norm, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return losses

    def _check_finite(self, values: Mapping[str, float], window: Sequence[int]) -> None:
        broken = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
        if broken:
            posts = list(dict.fromkeys(self.examples[index].post_id for index in window))
            raise TrainingError(
                f"{self.name}: {', '.join(broken)} in step {self.state.step + 1}, of posts {', '.join(posts)}: lower "
                f"the learning rate (now {self._rate():g}), or look at these posts; nothing finished was changed"
            )

    def _rate(self) -> float:
        """The learning rate of the step to come."""
        parameters, step, rate = self.parameters, self.state.step, self.state.learning_rate
        if step < parameters.warmup_steps:
            return rate * (step + 1) / parameters.warmup_steps
        if parameters.lr_schedule == "linear":
            # Steps may be as few as those of the warm-up.
            left = (self._steps - step) / max(1, self._steps - parameters.warmup_steps)
            return parameters.min_lr + (rate - parameters.min_lr) * left
        return rate

    @property
    def _steps(self) -> int:
        """The steps of all epochs."""
        rows = self.parameters.batch_size * self.parameters.gradient_accumulation_steps
        return self.parameters.epochs * math.ceil(len(self.examples) / rows)

    def _finish_epoch(self, seconds: float) -> None:
        state, parameters = self.state, self.parameters
        self.model.eval()
        found = self.validate(state.step)
        score = found["score"]
        self._record({"epoch": state.epoch + 1, "step": state.step, **found, "learning_rate": self._rate()})
        better = state.best_score is None or score > state.best_score
        # An equal score is no reason to go on at the same rate, but the adapter that has learned longer is kept.
        if better or score == state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
            if self.group.is_first:
                best = empty_folder(self.folder / "best")
                self.model.save_pretrained(best)
                state.best_files = file_hashes(best)
        if better:
            state.bad_epochs = state.stale_epochs = 0
        else:
            state.bad_epochs += 1
            state.stale_epochs += 1
            if parameters.lr_schedule == "plateau" and state.bad_epochs >= parameters.lr_patience:
                state.learning_rate = max(state.learning_rate * parameters.lr_factor, parameters.min_lr)
                state.bad_epochs = 0
        logger.info(
            "%s, epoch %d: dev score %.3f (best %.3f in epoch %d), %.0f s",
            self.name, state.epoch + 1, score, state.best_score, cast(int, state.best_epoch) + 1, seconds,
        )  # fmt: skip
        state.epoch += 1
        state.window = 0
        early = (
            parameters.early_stopping_patience is not None and state.stale_epochs >= parameters.early_stopping_patience
        )
        state.finished = early or state.epoch == parameters.epochs
        self._save()

    def _save(self) -> None:
        if self.group.is_first:
            self.checkpoints.save(self.state, self.model, self.optimizer)

    @property
    def _history_file(self) -> Path:
        return self.folder / HISTORY

    def _record(self, row: dict[str, Any]) -> None:
        if not self.group.is_first:
            return
        with self._history_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _history(self) -> list[dict[str, Any]]:
        return read_history(self._history_file) if self._history_file.exists() else []


def _parameter_groups(model: TrainedModel, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """The trained parameters, grouped by what their learning rate is multiplied by.

    Raises:
        UserError: If a key is in no parameter's name.
    """
    groups: dict[float, list[torch.nn.Parameter]] = {}
    unknown = set(factors)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            keys = [key for key in factors if key in name]
            unknown.difference_update(keys)
            groups.setdefault(factors[keys[0]] if keys else 1.0, []).append(parameter)
    if unknown:
        raise UserError(
            f"lr_factors names {', '.join(sorted(unknown))}, which is in no trained parameter's name: "
            "take it out, or name part of one, such as cross_attn"
        )
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a training history, without a last line that a kill tore: its step is done again.

    Raises:
        UserError: If the file can't be read or a line is no JSON object; the message names it.
    """
    rows = []
    for number, line in enumerate(read_text(path, UserError).split("\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is no JSON object: put the file back, or move its folder away")
        rows.append(row)
    return rows
