"""Features of a vision tower that is not trained, made once a run."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mulcot_rd.distributed import ALONE, Group
from mulcot_rd.files import replace_file
from mulcot_rd.fingerprint import file_fingerprint, fingerprint
from mulcot_rd.images import ImageError
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import TrainedModel
from mulcot_rd.progress import progress

# Images that a frozen tower encodes at once.
_TOWER_BATCH = 8

# Makes what a model takes for the images at these paths, by argument name.
ImageSource = Callable[[Sequence[str | None]], dict[str, Tensor]]


class ImageStore:
    """What a model takes for each image; where the vision tower is frozen its features, a file a distinct image.

    A frozen tower sees each image once. The features lie in files, and not in memory, so that the number of posts
    doesn't show in the peak of memory. Patches for a tower that is trained are made by the encoder each time.

    Args:
        folder: Where the files lie; those of another encoder or other weights have other names.
        encoder: Makes the model's inputs of images.
        model: The model that will read them.
        weights: What identifies the frozen weights of the model.
    """

    def __init__(self, folder: Path, encoder: InputEncoder, model: TrainedModel, weights: str) -> None:
        self._folder = folder
        self._encoder = encoder
        self._base = base_model(model)
        family = encoder.family
        self._frozen_tower = bool(family.vision_modules(self._base)) and not family.trains_vision(self._base)
        self._mark = fingerprint(family.name, weights, encoder.image_size, str(self._base.dtype))
        self._names: dict[str, str] = {}

    def __call__(self, paths: Sequence[str | None]) -> dict[str, Tensor]:
        """The inputs for the images at these paths, in this order; nothing for families that read text alone.

        Raises:
            ImageError: If an image is missing or broken.
        """
        if not (self._frozen_tower and self._encoder.sees_images):
            return self._encoder.images(paths)
        parts = [load_file(self._file(cast(str, path))) for path in paths]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def prepare(self, paths: Sequence[str], group: Group = ALONE) -> None:
        """Let a frozen tower encode the images that it has not seen yet; the processes share them.

        Raises:
            ImageError: If an image is missing or broken.
        """
        if not (self._frozen_tower and self._encoder.sees_images):
            return
        missing: list[str] = []
        # Rank 0 alone looks: a network file system may go on saying that a file is not there.
        if group.is_first:
            missing = [path for path in dict.fromkeys(paths) if not self._file(path).exists()]
        missing = group.broadcast(missing)
        share = group.share(missing)
        description = "images through the frozen tower"
        with progress(total=len(share), desc=description, unit="image", disable=not group.is_first) as bar:
            for start in range(0, len(share), _TOWER_BATCH):
                chosen = share[start : start + _TOWER_BATCH]
                for path, features in zip(chosen, self._features(chosen), strict=True):
                    replace_file(self._file(path), partial(save_file, features))
                bar.update(len(chosen))
        group.barrier()

    @torch.no_grad()
    def _features(self, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """The tower's output for each image."""
        images = {name: tensor.to(self._base.device) for name, tensor in self._encoder.images(paths).items()}
        features = self._encoder.family.encode_images(self._base, images)
        for number in range(len(paths)):
            yield {name: tensor[number : number + 1].cpu().contiguous() for name, tensor in features.items()}

    def _file(self, path: str) -> Path:
        if path not in self._names:
            if not Path(path).is_file():
                raise ImageError(f"image not found: {path}")
            self._names[path] = f"{file_fingerprint(Path(path))}-{self._mark}.safetensors"
        return self._folder / self._names[path]
