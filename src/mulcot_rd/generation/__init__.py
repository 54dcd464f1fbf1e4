"""Generation of reasonings and labels by assistant and student."""

from mulcot_rd.generation.answers import answer_posts
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog

__all__ = ["Answer", "AnswerLog", "GenerationParameters", "answer_posts"]
