"""Generation of reasonings and labels by assistant and student."""

from mulcot_rd.generation.answers import Answer, AnswerLog, GenerationParameters, answer_posts

__all__ = ["Answer", "AnswerLog", "GenerationParameters", "answer_posts"]
