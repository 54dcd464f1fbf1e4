"""Generation of reasonings and labels by assistant and student."""

from mulcot_rd.generation.answers import answer_posts
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog, Generated

__all__ = ["Answer", "AnswerLog", "Generated", "GenerationParameters", "answer_posts"]
