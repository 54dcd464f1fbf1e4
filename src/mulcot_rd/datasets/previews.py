"""What kedro-viz can show of a dataset: it goes by the name of what ``preview`` returns."""

from typing import NewType

TablePreview = NewType("TablePreview", dict)
JSONPreview = NewType("JSONPreview", str)
ImagePreview = NewType("ImagePreview", str)
