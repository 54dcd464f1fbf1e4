"""Kedro datasets of the project's own kinds of files."""

from mulcot_rd.datasets.adapter import AdapterDataset
from mulcot_rd.datasets.credentials import CredentialsDataset
from mulcot_rd.datasets.figure import FigureDataset
from mulcot_rd.datasets.jsonl import JSONLinesDataset
from mulcot_rd.datasets.path import PathDataset
from mulcot_rd.datasets.posts import PostsDataset
from mulcot_rd.datasets.replaced import (
    ReplacedCSVDataset,
    ReplacedJSONDataset,
    ReplacedTextDataset,
    ReplacedYAMLDataset,
)
from mulcot_rd.datasets.report_table import ReportTableDataset
from mulcot_rd.datasets.run_files import RunFilesDataset
from mulcot_rd.datasets.soft_labels import SoftLabelsDataset
from mulcot_rd.datasets.verdicts import VerdictsDataset

__all__ = [
    "AdapterDataset",
    "CredentialsDataset",
    "FigureDataset",
    "JSONLinesDataset",
    "PathDataset",
    "PostsDataset",
    "ReplacedCSVDataset",
    "ReplacedJSONDataset",
    "ReplacedTextDataset",
    "ReplacedYAMLDataset",
    "ReportTableDataset",
    "RunFilesDataset",
    "SoftLabelsDataset",
    "VerdictsDataset",
]
