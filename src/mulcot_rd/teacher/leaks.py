"""The leak check of stage two: an explanation must not reveal that its author was told the label (Eq. 4)."""

import re

from mulcot_rd.schema import Reasoning

_LABEL = r"(?:sentiment(?: label)?|label|answer|verdict|prediction|classification)"
_SENTIMENT = r"(?:positive|neutral|negative)"
_TASK = r"(?:task|prompt|instructions?|question|input)"
# Looked at alone: the phrase is quoted in the retry's prompt, by which a paid answer is found again.
_WHO = "|".join(
    rf"(?<=\b{who} )"
    for who in ("I", "we", "I've", "we've", "I have", "we have", "I had", "we had", "having", "model", "annotator")
)
_LEAKS = re.compile(
    "|".join(
        (
            rf"\b(?:given|provided|supplied|pre-?labell?ed|pre-?determined|pre-?established|predefined|established|assigned"
            rf"|annotated|gold|known|specified|stated|required|requested)"
            rf"[ -](?:gold |correct |true |{_SENTIMENT} )?{_LABEL}\b",
            r"\b(?:sentiment|label) (?:(?:that |which )?(?:I|we) (?:was|were) (?:given|told)|(?:that|which) (?:was|is) "
            r"(?:given|provided))\b",
            r"\bas (?:instructed|specified)(?=[,.;]|$)|\bper the instructions?\b",
            r"\bthe sentiment (?:given|provided|established|assigned|specified) (?:is|was|here|for th(?:is|e) post)\b",
            r"\b(?:correct|true|target|actual) label\b|\bcorrect (?:answer|sentiment)\b",
            r"\bground[ -]?truth\b|\bgold[ -]standard\b",
            # The writer of the post may have been told something, too.
            rf"(?:{_WHO})(?:was|were|been|am|being) (?:already )?(?:told|informed|instructed)\b",
            r"\b(?:told|informed|instructed) (?:me|us|that the (?:sentiment|label|post|verdict))\b",
            r"\b(?:told|instructed) to(?= (?:conclude|label|predict|classify|judge|explain|justify)\b)",
            rf"\b(?:as|was|is|been) (?:stated|given|specified|established|indicated|provided|mentioned|requested)"
            rf"(?: to (?:me|us))? (?:in|by|beforehand)(?: the)? {_TASK}\b",
            r"\b(?:as|was|is|been) (?:given|specified|provided|requested) by the user\b",
            rf"\baccording to the (?:label|{_TASK})\b",
            r"\bsentiment (?:of (?:the|this) post |toward\w* [^.]{1,40} )?(?:was|is|has been|had been) (?:already )?"
            r"(?:given|provided|established|specified|pre-?determined|known|set|labell?ed|stated)\b",
            r"\b(?:known|decided|established|determined) (?:to (?:me|us) )?(?:beforehand|in advance)\b",
            r"\b(?:the|this) label (?:is|was|says|states|indicates|confirms|given|provided|of)\b",
            # A label on a shirt is another one.
            r"\b(?:with|matche?s?|matching|support(?:s|ing)?|justif(?:y|ies|ying)|to) the (?:[a-z]+ ){0,3}label\b"
            r"(?! (?:on|of the)\b)",
            rf"\b(?:labell?ed|annotated) (?:as )?{_SENTIMENT}\b",
            # That something is determined to be negative follows from evidence; that it has been, from before.
            rf"\b(?:already|been) (?:established|determined) (?:as|to be) {_SENTIMENT}\b",
            # Not as established above, or by the image.
            r"\bas (?:already )?established,",
            r"\b(?:(?:I|we) (?:already )?know|knowing) (?:that )?the (?:post|sentiment|verdict|label) is\b",
            r"\bknown that the (?:sentiment|verdict|label)\b",
        )
    ),
    re.IGNORECASE,
)


def find_leak(reasoning: Reasoning, post_text: str) -> str | None:
    """The first phrase that gives away that the label was known, or ``None``.

    A phrase that the post itself contains is taken for a quotation of the post.
    """
    quoted = " ".join(post_text.lower().split())
    for section in reasoning.sections.values():
        for match in _LEAKS.finditer(" ".join(section.split())):
            if match.group().lower() not in quoted:
                return match.group()
    return None
