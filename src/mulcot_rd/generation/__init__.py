"""Generation of reasonings and labels by assistant and student."""

from mulcot_rd.generation.answers import answer_posts
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog, kept_answers
from mulcot_rd.generation.trained import AnsweringJob

__all__ = [
    "Answer",
    "AnswerLog",
    "AnsweringJob",
    "GenerationParameters",
    "answer_posts",
    "kept_answers",
]
