"""Checkpoints of a training in progress: atomic, exact, and without pickle.

A checkpoint is a safetensors file with the trained weights and AdamW's moments, and a JSON file, written last,
that names it. Dropout draws from the seed, the step and the micro-batch, so no generator state is kept.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file

from mulcot_rd.files import replace_file, write_text
from mulcot_rd.fingerprint import file_fingerprint
from mulcot_rd.kept import DamagedError, damaged_files

_CURE = "put the original back, or delete {} to begin this training anew"
# What AdamW keeps of a parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class TrainingState(BaseModel):
    """Where a training stands.

    ``epoch`` and ``window`` name the next accumulation window to train on; ``step`` counts optimiser steps done.
    ``bad_epochs`` counts epochs since the rate was last halved or the score last rose, ``stale_epochs`` those
    since the best score. ``files`` and ``best_files`` hold the hashes of the checkpoint and of the best adapter.
    """

    model_config = ConfigDict(extra="forbid")

    fingerprint: str
    epoch: int = 0
    window: int = 0
    step: int = 0
    learning_rate: float
    bad_epochs: int = 0
    stale_epochs: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    finished: bool = False
    tensors: str | None = None
    files: dict[str, str] = {}
    best_files: dict[str, str] = {}


class Checkpoints:
    """The checkpoints of one training in one folder; only the newest is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    def state(self, fingerprint: str) -> TrainingState | None:
        """The newest state, or ``None`` where there is none or it belongs to another configuration or data."""
        if not self._state_file.exists():
            return None
        try:
            state = TrainingState(**json.loads(self._state_file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise DamagedError(f"{self._state_file} is damaged: {_CURE.format(self.folder.parent)}") from error
        return state if state.fingerprint == fingerprint else None

    def save(self, state: TrainingState, model: PeftModel, optimizer: torch.optim.AdamW) -> None:
        """Write weights, moments and state; the one before stays valid until this one is complete."""
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in _trained(model):
            tensors[f"weight/{name}"] = parameter.detach().contiguous()
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value.contiguous()
        name = f"step-{state.step:07d}.safetensors"
        replace_file(self.folder / name, lambda path: save_file(tensors, path))
        made = {"tensors": name, "files": {name: file_fingerprint(self.folder / name)}}
        write_text(self._state_file, state.model_copy(update=made).model_dump_json(indent=2))
        for old in self.folder.glob("step-*.safetensors"):
            if old.name != name:
                old.unlink()

    def restore(self, state: TrainingState, model: PeftModel, optimizer: torch.optim.AdamW) -> None:
        """Put weights and moments of ``state`` back, bit for bit.

        Raises:
            DamagedError: If the checkpoint is missing, or not what was written.
        """
        if state.tensors is None:
            return
        check_training_files(self.folder, state.files)
        tensors = load_file(self.folder / state.tensors)
        trained = _trained(model)
        with torch.no_grad():
            for name, parameter in trained:
                parameter.copy_(tensors[f"weight/{name}"])
        names = {parameter: name for name, parameter in trained}
        optimized = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
        moments = {
            index: {key: tensors[f"{key}/{name}"] for key in _MOMENTS}
            for index, name in enumerate(optimized)
            if f"{_MOMENTS[0]}/{name}" in tensors
        }
        # The optimizer knows on which device each of its tensors belongs.
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def check_training_files(folder: Path, files: Mapping[str, str]) -> None:
    """Refuse files of a training in progress that are missing, or not what was written.

    Raises:
        DamagedError: If one is.
    """
    if damaged := damaged_files(folder, files):
        cure = _CURE.format(folder.parent)
        raise DamagedError(f"{folder}: {', '.join(damaged)} is missing or not the file that was written: {cure}")


def _trained(model: PeftModel) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
