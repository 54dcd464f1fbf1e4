"""What can be checked of a reasoning without asking whether it convinces anybody; most of it is a measure elsewhere.

What is optimised here is no evidence of itself afterwards: see ``docs/preference.md``.
"""

from typing import Literal

from mulcot_rd.metrics.quality import conclusion_label, names_aspect, quotes_in_post
from mulcot_rd.schema import Post, Reasoning, Sentiment
from mulcot_rd.teacher.leaks import find_leak


def checks(
    reasoning: Reasoning,
    post: Post,
    label_answer: Sentiment | None = None,
    judged: Sentiment | Literal["unclear"] | None = None,
) -> dict[str, float]:
    """What holds of a complete reasoning, each from 0 to 1; what can't be checked has no entry.

    Args:
        reasoning: A reasoning with all its sections and a label.
        post: The post that it is about.
        label_answer: The same model's answer to the label prompt; ``None`` where it was not asked, or said no label.
        judged: The label that a judge reads from the conclusion; ``None`` where nobody was asked.

    Returns:
        ``label_right`` (it comes to the gold label), ``conclusion_entails`` (its conclusion comes to its own label),
        ``no_leak`` (it does not say that it was told the label), ``quotes_grounded`` (share of quotes that the post
        has; without a quote 0, or else quoting nothing would be the easiest way to be right), ``aspect_named``,
        ``prompts_agree``, ``judged_entails``.
    """
    quotes = quotes_in_post(reasoning, post)
    found = {
        "label_right": reasoning.prediction == post.label,
        "conclusion_entails": conclusion_label(reasoning) == reasoning.prediction,
        "no_leak": find_leak(reasoning, post.text) is None,
        "quotes_grounded": sum(quotes) / len(quotes) if quotes else 0.0,
    }
    if post.aspect is not None:
        found["aspect_named"] = names_aspect(reasoning, post.aspect)
    if label_answer is not None:
        found["prompts_agree"] = reasoning.prediction == label_answer
    if judged is not None:
        found["judged_entails"] = reasoning.prediction == judged
    return {name: float(value) for name, value in found.items()}
