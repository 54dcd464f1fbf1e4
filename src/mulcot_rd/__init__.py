"""MulCoT-RD: multimodal sentiment reasoning, distilled from a teacher to an assistant to a small student."""

__version__ = "0.1.0"
