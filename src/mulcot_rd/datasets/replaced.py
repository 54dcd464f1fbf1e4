"""Kedro's own datasets of one file, saved in one step: a reader sees the old file or the new one, never half."""

import copy
from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets.json import JSONDataset
from kedro_datasets.matplotlib import MatplotlibDataset
from kedro_datasets.pandas import CSVDataset
from kedro_datasets.text import TextDataset
from kedro_datasets.yaml import YAMLDataset

from mulcot_rd.files import replace_file


class ReplacedFile:
    """Mixin of a dataset of Kedro's: ``save`` fills a file beside the real one, which then takes its place.

    A remote store replaces an object in one step by itself.
    """

    def save(self: Any, data: Any) -> None:
        """Replace the file."""
        if self._protocol != "file":
            super().save(data)
            return

        def write(temporary: Path) -> None:
            beside = copy.copy(self)
            beside._filepath, beside._version = PurePosixPath(temporary), None
            super(ReplacedFile, beside).save(data)

        replace_file(Path(self._get_save_path()), write)


class ReplacedJSONDataset(ReplacedFile, JSONDataset):
    """A JSON file, replaced in one step."""


class ReplacedYAMLDataset(ReplacedFile, YAMLDataset):
    """A YAML file, replaced in one step."""


class ReplacedTextDataset(ReplacedFile, TextDataset):
    """A text file, replaced in one step."""


class ReplacedCSVDataset(ReplacedFile, CSVDataset):
    """A CSV file, replaced in one step."""


class ReplacedMatplotlibDataset(ReplacedFile, MatplotlibDataset):
    """A figure, replaced in one step."""
