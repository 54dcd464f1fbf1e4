"""MulCoT-RD: multimodal sentiment reasoning, distilled from a teacher to an assistant to a small student."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mulcot_rd.prediction.reasoner import SentimentReasoner

__all__ = ["SentimentReasoner"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Most commands need no model.
    if name == "SentimentReasoner":
        from mulcot_rd.prediction.reasoner import SentimentReasoner

        return SentimentReasoner
    raise AttributeError(f"module {__name__} has no attribute {name}")
