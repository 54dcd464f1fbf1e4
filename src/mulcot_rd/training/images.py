"""The model's view of each image, made once a run: patches, or the features of a vision tower that is not trained."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

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
ImageSource = Callable[[Sequence[str]], dict[str, Tensor]]


class ImageStore:
    """What a model takes for each image, made once and then read from disk, a file a distinct image.

    Files, and not memory, so that the number of posts doesn't show in the peak of memory; what is read often stays in
    the system's cache. Where nothing that sees the image is trained, the vision tower's features are kept in place of
    the patches, and the tower sees each image once.

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
        made_by = (family.name, weights if self._frozen_tower else None, encoder.image_size, str(self._base.dtype))
        self._mark = fingerprint(*made_by)
        self._names: dict[str, str] = {}

    def __call__(self, paths: Sequence[str]) -> dict[str, Tensor]:
        """The inputs for the images at these paths, in this order; nothing for families that read text alone.

        Raises:
            ImageError: If an image is missing or broken.
        """
        if not self._encoder.sees_images:
            return {}
        parts = [self._inputs(path) for path in paths]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def prepare(self, paths: Sequence[str]) -> None:
        """Let a frozen tower encode the images that it has not seen yet; else patches are made as they are asked for.

        The tower belongs to the thread that trains, patches may be made by another one meanwhile.

        Raises:
            ImageError: If an image is missing or broken.
        """
        if not self._frozen_tower or not self._encoder.sees_images:
            return
        missing = [path for path in dict.fromkeys(paths) if not self._file(path).exists()]
        with progress(total=len(missing), desc="images through the frozen tower", unit="image") as bar:
            for start in range(0, len(missing), _TOWER_BATCH):
                chosen = missing[start : start + _TOWER_BATCH]
                for path, features in zip(chosen, self._features(chosen), strict=True):
                    self._write(path, features)
                bar.update(len(chosen))

    def discard(self) -> None:
        """Remove the files: they are as large as the images are many, and made again in a moment."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @torch.no_grad()
    def _features(self, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """The tower's output for each image."""
        images = {name: tensor.to(self._base.device) for name, tensor in self._encoder.images(paths).items()}
        features = self._encoder.family.encode_images(self._base, images)
        for number in range(len(paths)):
            yield {name: tensor[number : number + 1].cpu() for name, tensor in features.items()}

    def _inputs(self, path: str) -> dict[str, Tensor]:
        file = self._file(path)
        if not file.exists():
            if self._frozen_tower:
                raise RuntimeError(f"the features of {path} are asked for before they are prepared")
            # The model casts pixels to its own type before it does anything else with them.
            made = self._encoder.images([path])
            self._write(path, {n: t.to(self._base.dtype) if t.is_floating_point() else t for n, t in made.items()})
        return load_file(file)

    def _write(self, path: str, tensors: dict[str, Tensor]) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        replace_file(self._file(path), lambda target: save_file(tensors, target))

    def _file(self, path: str) -> Path:
        if path not in self._names:
            if not Path(path).is_file():
                raise ImageError(f"image not found: {path}")
            self._names[path] = f"{file_fingerprint(Path(path))}-{self._mark}.safetensors"
        return self._folder / self._names[path]
