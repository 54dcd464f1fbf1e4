"""Kedro's own datasets of one file, saved in one step, with versions of equal content once."""

from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import CSVDataset
from kedro_datasets.text import TextDataset
from kedro_datasets.yaml import YAMLDataset

from mulcot_rd.datasets.versioned import VersionedFiles


class ReplacedJSONDataset(VersionedFiles, JSONDataset):
    """A JSON file, replaced in one step.

    Example:
        .. code-block:: yaml

            metrics:
              type: mulcot_rd.datasets.ReplacedJSONDataset
              filepath: s3://bucket/08_reporting/sample/arch4-tiny-full/metrics.json
              versioned: true
              credentials: results

        >>> from kedro.io.core import Version
        >>> for version, accuracy in (("first", 0.5), ("second", 0.5), ("third", 0.6)):
        ...     dataset = ReplacedJSONDataset(filepath=str(tmp_path / "metrics.json"), version=Version(None, version))
        ...     dataset.save({"accuracy": accuracy})
        >>> dataset.list_versions(full_path=False)
        ['third', 'first']
    """


class ReplacedYAMLDataset(VersionedFiles, YAMLDataset):
    """A YAML file, replaced in one step."""


class ReplacedTextDataset(VersionedFiles, TextDataset):
    """A text file, replaced in one step."""


class ReplacedCSVDataset(VersionedFiles, CSVDataset):
    """A CSV file, replaced in one step."""
