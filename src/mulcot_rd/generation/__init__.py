"""Generation of reasonings and labels by assistant and student."""

from mulcot_rd.generation.answers import answer_posts
from mulcot_rd.generation.parameters import GenerationParameters, ServedParameters
from mulcot_rd.generation.records import Answer, AnswerLog
from mulcot_rd.generation.trained import trained_answers

__all__ = ["Answer", "AnswerLog", "GenerationParameters", "ServedParameters", "answer_posts", "trained_answers"]
