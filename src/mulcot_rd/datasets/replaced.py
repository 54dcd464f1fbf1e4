"""Kedro's own datasets of one file, saved in one step, with versions of equal content once."""

from kedro_datasets.json import JSONDataset
from kedro_datasets.matplotlib import MatplotlibDataset
from kedro_datasets.pandas import CSVDataset
from kedro_datasets.text import TextDataset
from kedro_datasets.yaml import YAMLDataset

from mulcot_rd.datasets.versioned import VersionedFiles


class ReplacedJSONDataset(VersionedFiles, JSONDataset):
    """A JSON file, replaced in one step."""


class ReplacedYAMLDataset(VersionedFiles, YAMLDataset):
    """A YAML file, replaced in one step."""


class ReplacedTextDataset(VersionedFiles, TextDataset):
    """A text file, replaced in one step."""


class ReplacedCSVDataset(VersionedFiles, CSVDataset):
    """A CSV file, replaced in one step."""


class ReplacedMatplotlibDataset(VersionedFiles, MatplotlibDataset):
    """A figure, replaced in one step."""
