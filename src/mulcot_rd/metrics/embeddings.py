"""Sentence embeddings of all-MiniLM-L6-v2, from the weights that the installed package carries."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from mulcot_rd.extras import extra
from mulcot_rd.minilm import minilm_folder
from mulcot_rd.progress import progress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Texts encoded at once. A few fill a processor's caches; more only add padding there, and are what a GPU needs.
BATCH_SIZE = {"cpu": 4, "cuda": 64}
_KEPT_TEXTS = 20_000
_KEPT: dict[str, np.ndarray] = {}


def cosine_similarities(generated: Sequence[str], references: Sequence[str], show_progress: bool = False) -> np.ndarray:
    """Cosine of the two sentence embeddings of each pair: the paper's Sim (Reimers and Gurevych, 2019).

    The model reads the first 256 tokens of a text.

    Args:
        generated: The generated texts, none of them empty.
        references: The reference text of each, none of them empty.
        show_progress: Whether to show a progress bar over the batches.

    Returns:
        Cosines from -1 to 1, shape [N].
    """
    both = sentence_embeddings([*generated, *references], show_progress)
    one, other = both[: len(generated)], both[len(generated) :]
    return np.clip((one * other).sum(axis=1, dtype=np.float64), -1.0, 1.0)


def forget() -> None:
    """Forget the embeddings that are kept, as benchmarks and tests of speed want it."""
    _KEPT.clear()


def sentence_embeddings(texts: Sequence[str], show_progress: bool = False) -> np.ndarray:
    """Embeddings of length one, shape [N, 384]; the latest are kept, for the next model that is scored by them.

    Args:
        texts: The texts; each distinct one is embedded once.
        show_progress: Whether to show a progress bar over the batches.
    """
    wanted = dict.fromkeys(texts)
    # Texts of like length are encoded together, which saves padding.
    missing = sorted((text for text in wanted if text not in _KEPT), key=len, reverse=True)
    made: dict[str, np.ndarray] = {}
    encoder = sentence_encoder()
    size = BATCH_SIZE[encoder.device.type]
    with progress(
        total=len(missing), desc="sentence embeddings", unit="text", disable=not (show_progress and missing)
    ) as bar:
        for start in range(0, len(missing), size):
            batch = missing[start : start + size]
            made.update(zip(batch, encoder.encode(batch, batch_size=size, normalize_embeddings=True), strict=True))
            bar.update(len(batch))
    found = {text: made[text] if text in made else _KEPT[text] for text in wanted}
    _KEPT.update(made)
    while len(_KEPT) > _KEPT_TEXTS:
        _KEPT.pop(next(iter(_KEPT)))
    return np.stack([found[text] for text in texts])


@cache
def sentence_encoder() -> "SentenceTransformer":
    """all-MiniLM-L6-v2, loaded once a process from disk alone, on the GPU where there is one.

    Raises:
        UserError: If the package that carries the weights is not installed.
    """
    # Imported here: it takes seconds, and most commands never embed a sentence.
    import torch  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    with extra("report"):
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return SentenceTransformer(str(minilm_folder()), device=device, local_files_only=True)
    finally:
        if bars:
            logging.enable_progress_bar()
