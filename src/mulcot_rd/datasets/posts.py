"""The posts of a data set: all of them on disk, the first so many of each split in a run."""

from io import BytesIO
from typing import Any

import pandas as pd
from kedro_datasets.pandas import ParquetDataset

from mulcot_rd.datasets.previews import TablePreview
from mulcot_rd.datasets.versioned import VersionedFiles


class PostsDataset(VersionedFiles, ParquetDataset):
    """The table of posts that all runs of a data set share.

    The file holds every post. ``limit`` is applied here, when the table is loaded, and nowhere else: so no run
    changes what another one reads. A file of equal content stays as it is.

    Example:
        .. code-block:: yaml

            posts:
              type: mulcot_rd.datasets.PostsDataset
              filepath: data/03_primary/sample/posts.parquet
              limit: 64
              versioned: true

        >>> table = pd.DataFrame({"id": ["1", "2", "3"], "split": ["train", "train", "test"]})
        >>> PostsDataset(filepath=str(tmp_path / "posts.parquet")).save(table)
        >>> PostsDataset(filepath=str(tmp_path / "posts.parquet"), limit=1).load()["id"].tolist()
        ['1', '3']
    """

    def __init__(self, *, filepath: str, limit: int | None = None, **kwargs: Any) -> None:
        """Name the file.

        Args:
            filepath: Path of the file.
            limit: Posts a split to load, the first so many; ``None`` loads all.
            kwargs: Of :class:`kedro_datasets.pandas.ParquetDataset`.
        """
        super().__init__(filepath=filepath, save_args={"index": False}, **kwargs)
        self._limit = limit

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "limit": self._limit}

    def load(self) -> pd.DataFrame:
        """The posts, at most ``limit`` of each split, in the order of the file."""
        # A table that is read by its path is opened several times, and may be replaced in between.
        posts = pd.read_parquet(BytesIO(self._fs.cat_file(str(self._get_load_path()))), **self._load_args)
        return posts if self._limit is None else posts.groupby("split").head(self._limit).reset_index(drop=True)

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first posts, for kedro-viz."""
        return TablePreview(self.load().head(nrows).to_dict(orient="split"))
