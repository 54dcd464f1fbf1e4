"""The teacher: who writes the reasonings that assistant and student learn from (paper, Section 3.2)."""

from mulcot_rd.teacher.annotate import Annotation, annotate
from mulcot_rd.teacher.captions import QuarantinedImage, caption_images, with_captions
from mulcot_rd.teacher.controller import QuarantinedPost
from mulcot_rd.teacher.errors import DryRunFinished, TeacherError
from mulcot_rd.teacher.parameters import TeacherParameters

__all__ = [
    "Annotation",
    "DryRunFinished",
    "QuarantinedImage",
    "QuarantinedPost",
    "TeacherError",
    "TeacherParameters",
    "annotate",
    "caption_images",
    "with_captions",
]
