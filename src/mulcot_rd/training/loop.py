"""The training loop that assistant and student share: accumulation, schedule, early end, exact resume."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mulcot_rd.errors import UserError
from mulcot_rd.files import empty_folder, read_text, write_text
from mulcot_rd.kept import file_hashes
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Example, micro_batches, windows
from mulcot_rd.training.checkpoints import Checkpoints, TrainingState, check_training_files
from mulcot_rd.training.learner import Learner, TrainingPool
from mulcot_rd.training.parameters import OptimisationParameters
from mulcot_rd.worker_pool import WorkerPool, pool_size

logger = logging.getLogger(__name__)

HISTORY = "history.jsonl"

# Rows to learn from, epochs taken together, from which on workers are worth their start.
_WORTH_WORKERS = 2000


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


class Trainer:
    """Trains one adapter, and goes on exactly where it was killed.

    Args:
        role: "assistant" or "student", for progress and logs.
        learner: The model, and what makes a loss of its rows.
        examples: The training rows.
        validate: Scores the model on the dev split; is told the number of steps done, and given the processes that
            have the model.
        parameters: Optimiser, schedule and batches.
        seed: Of order and dropout.
        folder: Where checkpoints, history and the best adapter are kept meanwhile.
        fingerprint: Of everything that determines the result; work of another fingerprint is not continued.
    """

    def __init__(
        self,
        *,
        role: str,
        learner: Learner,
        examples: Sequence[Example],
        validate: Callable[[int, WorkerPool], float],
        parameters: OptimisationParameters,
        seed: int,
        folder: Path,
        fingerprint: str,
    ) -> None:
        self.role = role
        self.learner = learner
        self.model = learner.model
        self.examples = examples
        self.validate = validate
        self.parameters = parameters
        self.seed = seed
        self.folder = folder
        self.checkpoints = Checkpoints(folder / "checkpoint")
        self._lengths = [example.length for example in examples]
        self._trained = learner.trained
        self.optimizer = torch.optim.AdamW(
            self._trained, lr=parameters.learning_rate, weight_decay=parameters.weight_decay, fused=True
        )
        self.state = self._begin(fingerprint)

    def run(self) -> TrainingOutcome:
        """Train to the end and return the best epoch's adapter."""
        if not self.state.finished:
            with TrainingPool(self.learner, self._processes()) as pool:
                while not self.state.finished:
                    self._epoch(pool)
        if self.state.best_epoch is None or self.state.best_score is None:
            raise RuntimeError("training ended without a scored epoch")
        check_training_files(self.folder / "best", self.state.best_files)
        return TrainingOutcome(self.folder / "best", self.state.best_epoch + 1, self.state.best_score, self._history())

    def _processes(self) -> int:
        """How many processes share the work."""
        parameters = self.parameters
        most = len(self._cut(max(self._windows(0), key=len)))
        if not worth_workers(len(self.examples), parameters):
            most = 1
        return pool_size(parameters.workers, self.model.device, most)

    def _windows(self, epoch: int) -> list[list[int]]:
        parameters = self.parameters
        return windows(self._lengths, parameters.batch_size * parameters.gradient_accumulation_steps, self.seed, epoch)

    def _begin(self, fingerprint: str) -> TrainingState:
        state = self.checkpoints.state(fingerprint)
        if state is None:
            if self.folder.exists() and any(self.folder.iterdir()):
                logger.info("%s: %s holds no checkpoint to go on from; starting anew", self.role, self.folder)
            empty_folder(self.folder)
            return TrainingState(fingerprint=fingerprint, learning_rate=self.parameters.learning_rate)
        logger.info("%s: going on at epoch %d, step %d", self.role, state.epoch + 1, state.step)
        self.checkpoints.restore(state, self.model, self.optimizer)
        kept = [
            row
            for row in self._history()
            if row["step"] <= state.step and ("score" not in row or row["epoch"] <= state.epoch)
        ]
        write_text(self._history_file, "".join(json.dumps(row) + "\n" for row in kept))
        return state

    def _epoch(self, pool: TrainingPool) -> None:
        state, parameters = self.state, self.parameters
        order = self._windows(state.epoch)
        started = time.monotonic()
        bar = progress(
            total=len(self.examples),
            initial=sum(len(window) for window in order[: state.window]),
            desc=f"{self.role}, epoch {state.epoch + 1} of at most {parameters.epochs}",
            unit="row",
        )
        saved = started
        pool.begin([self._cut(window) for window in order[state.window :]])
        with bar:
            while state.window < len(order):
                window = order[state.window]
                terms = self._step(window, pool)
                state.window += 1
                state.step += 1
                self._record({"epoch": state.epoch + 1, "step": state.step, **terms})
                if state.window == len(order) or time.monotonic() - saved >= 60 * parameters.checkpoint_minutes:
                    self.checkpoints.save(state, self.model, self.optimizer)
                    saved = time.monotonic()
                bar.update(len(window))
                bar.set_postfix({name: f"{value:.3f}" for name, value in terms.items()}, refresh=False)
        self._finish_epoch(time.monotonic() - started, pool)

    def _cut(self, window: Sequence[int]) -> list[Sequence[int]]:
        """The window's micro-batches."""
        parameters = self.parameters
        return list(micro_batches(window, parameters.batch_size, self._lengths, parameters.batch_tokens))

    def _step(self, window: Sequence[int], pool: TrainingPool) -> dict[str, float]:
        """One optimiser step over a window; returns the window's loss terms."""
        tokens: dict[Task, int] = {}
        for index in window:
            for task, ids in self.examples[index].targets.items():
                tokens[task] = tokens.get(task, 0) + len(ids)
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seeds = [hash((self.seed, self.state.step, number)) % (1 << 63) for number in range(len(self._cut(window)))]
        terms = pool.step(seeds, tokens)
        norm = torch.nn.utils.get_total_norm(p.grad for p in self._trained if p.grad is not None)
        self._check_finite({**terms, "gradient norm": float(norm)}, window)
        if self.parameters.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._trained, self.parameters.max_grad_norm, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return terms

    def _check_finite(self, values: Mapping[str, float], window: Sequence[int]) -> None:
        broken = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
        if broken:
            posts = list(dict.fromkeys(self.examples[index].post_id for index in window))
            raise TrainingError(
                f"{self.role}: {', '.join(broken)} in step {self.state.step + 1}, of posts {', '.join(posts)}: lower "
                f"the learning rate (now {self._rate():g}), or look at these posts; nothing finished was changed"
            )

    def _rate(self) -> float:
        warmup = self.parameters.warmup_steps
        return (
            self.state.learning_rate * min(1.0, (self.state.step + 1) / warmup) if warmup else self.state.learning_rate
        )

    def _finish_epoch(self, seconds: float, pool: TrainingPool) -> None:
        state, parameters = self.state, self.parameters
        self.model.eval()
        score = self.validate(state.step, pool)
        self._record(
            {"epoch": state.epoch + 1, "step": state.step, "score": score, "learning_rate": state.learning_rate}
        )
        better = state.best_score is None or score > state.best_score
        # An equal score is no reason to go on at the same rate, but the adapter that has learned longer is kept.
        if better or score == state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
            best = empty_folder(self.folder / "best")
            self.model.save_pretrained(best)
            state.best_files = file_hashes(best)
        if better:
            state.bad_epochs = state.stale_epochs = 0
        else:
            state.bad_epochs += 1
            state.stale_epochs += 1
            if state.bad_epochs >= parameters.lr_patience:
                state.learning_rate = max(state.learning_rate * parameters.lr_factor, parameters.min_lr)
                state.bad_epochs = 0
        logger.info(
            "%s, epoch %d: dev score %.3f (best %.3f in epoch %d), %.0f s",
            self.role, state.epoch + 1, score, state.best_score, state.best_epoch + 1, seconds,
        )  # fmt: skip
        state.epoch += 1
        state.window = 0
        early = (
            parameters.early_stopping_patience is not None and state.stale_epochs >= parameters.early_stopping_patience
        )
        state.finished = early or state.epoch == parameters.epochs
        self.checkpoints.save(state, self.model, self.optimizer)

    @property
    def _history_file(self) -> Path:
        return self.folder / HISTORY

    def _record(self, row: dict[str, Any]) -> None:
        with self._history_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _history(self) -> list[dict[str, Any]]:
        return read_history(self._history_file) if self._history_file.exists() else []


def worth_workers(rows: float, parameters: OptimisationParameters) -> bool:
    """Whether a training on so many rows is long beside the start of workers; yes where their number is given."""
    return parameters.workers is not None or rows * parameters.epochs >= _WORTH_WORKERS


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
