"""The phrases of the offline annotator: a few ways of saying each thing, in a small vocabulary.

Fields: ``words`` the cited words in single quotes, ``toward`` and ``about`` the aspect as " toward NAME" and
" about NAME", or nothing, ``look`` the image's facts in words, ``lean`` the side that a section leans to,
``mood`` its everyday word, ``label`` the verdict, ``irony`` the cited marker of irony.
"""

from enum import StrEnum

MOODS = {"positive": "happy", "neutral": "calm", "negative": "unhappy"}


class TextView(StrEnum):
    """What the text comes to."""

    LEANS = "leans"
    UNSPOKEN = "unspoken"
    WEAK = "weak"
    PLAIN = "plain"


class Weighing(StrEnum):
    """How text and image were weighed against each other."""

    AGREE = "agree"
    TEXT_ALONE = "text_alone"
    IMAGE_ALONE = "image_alone"
    BOTH_NEUTRAL = "both_neutral"
    TEXT_WINS = "text_wins"
    IRONY = "irony"
    IMAGE_WINS = "image_wins"
    FACTS_WIN = "facts_win"
    IMPLIED = "implied"


TEXT = {
    TextView.LEANS: (
        "The text contains {words}, so the writer sounds {mood}. The tone of the words{toward} is {lean}.",
        "With {words}, the text shows an open feeling{toward}. The wording alone reads as {lean}.",
        "The writer uses {words}, which is {lean} language. The text expresses a {mood} mood{toward}.",
        "The key evidence in the text is {words}. It tells us that the writer feels {mood}{toward}.",
        "The wording {words} carries a {lean} tone{toward}. The writer seems {mood} here.",
    ),
    TextView.UNSPOKEN: (
        "The text has no strong feeling words, but its signs show a {mood} writer. The tone{toward} is {lean}.",
        "Without strong words, the signs in the text still sound {mood}. The text leans {lean}{toward}.",
    ),
    TextView.WEAK: (
        "The text contains {words}, but the tone{toward} stays weak. The wording alone reads as neutral.",
        "There is only {words} in the text, which is not a strong feeling{toward}. Its tone is neutral.",
        "The writer uses {words} in passing. The text shows no clear feeling{toward}.",
        "The wording {words} is the only hint in the text. It does not show a clear mood{toward}.",
    ),
    TextView.PLAIN: (
        "The text has no strong feeling words. It only reports facts{about}, so its tone is neutral.",
        "The text is plain and factual. It shows no clear feeling{toward}, neither happy nor unhappy.",
        "The writer only states what there is to know{about}. The wording alone reads as neutral.",
        "There is no open feeling{toward} in the text. The words are plain and the tone is neutral.",
    ),
}

IMAGE = {
    "positive": (
        "The image is {look}. It gives a cheerful impression and leans positive.",
        "The picture is {look}, which feels happy. It leans positive.",
        "We see an image that is {look}. This creates a lively and pleasant mood.",
        "The picture looks {look}. Such light and colour suggest a good moment.",
    ),
    "neutral": (
        "The image is {look}. It shows no clear mood, so it is neutral.",
        "The picture is {look}, which says little about feelings. It leans neutral.",
        "We see an image that is {look}. This creates neither a happy nor an unhappy mood.",
        "The picture looks {look}. Such light and colour suggest an ordinary moment.",
    ),
    "negative": (
        "The image is {look}. It gives a gloomy impression and leans negative.",
        "The picture is {look}, which feels sad. It leans negative.",
        "We see an image that is {look}. This creates a heavy and unpleasant mood.",
        "The picture looks {look}. Such light and colour suggest a bad moment.",
    ),
}

CONFLICT = {
    Weighing.AGREE: (
        "There is no conflict, because text and image both lean {label}. Each makes the other stronger.",
        "Text and image agree with each other. Both lean {label}, so nothing has to be resolved.",
        "The image supports the text. Both sides are {label}, and they fit well together.",
        "Both sides tell the same story. The image makes the {label} tone of the text stronger.",
    ),
    Weighing.TEXT_ALONE: (
        "The image is neutral and does not contradict the text. The words are clear, so the text decides.",
        "Only the text shows a feeling, so it counts more than the image. There is nothing against it.",
        "There is no real conflict, because the image takes no side. We follow the words of the writer.",
        "The image adds little to the {label} words. The text is the better evidence.",
    ),
    Weighing.IMAGE_ALONE: (
        "The text is neutral and does not contradict the image. The mood is clear, so the image decides.",
        "Only the image shows a feeling, so it counts more than the text. There is nothing against it.",
        "There is no real conflict, because the text takes no side. We follow the mood of the picture.",
        "The text adds little to the {label} picture. The image is the better evidence.",
    ),
    Weighing.BOTH_NEUTRAL: (
        "There is no conflict, because neither text nor image takes a side. Both stay calm and plain.",
        "Text and image agree with each other. Neither shows a strong feeling.",
        "Nothing has to be resolved, because both sides stay neutral. There is no hint of a mood.",
        "Both sides tell the same story. It is a plain one, without a clear mood.",
    ),
    Weighing.TEXT_WINS: (
        "The image points the other way, but nothing in the text sounds ironic. The words are meant and they decide.",
        "Text and image conflict. The words are the clear statement of the writer, so they count more.",
        "The mood of the image does not fit the words. It is only the background, so we follow the text.",
        "There is a conflict between the two. The text speaks directly, so it is the better evidence.",
    ),
    Weighing.IRONY: (
        "The words and the image conflict, and '{irony}' sounds ironic. The image shows what is meant.",
        "Text and image conflict. The phrase '{irony}' is a sign of irony, so the image counts more than the words.",
        "The mood of the image does not fit the words. With '{irony}' the writer is joking, so we follow the picture.",
        "There is a conflict between the two. Because of '{irony}' the text is not serious, and the image decides.",
    ),
    Weighing.IMAGE_WINS: (
        "The words and the image conflict, and the words are not meant as they stand. The image shows what is meant.",
        "Text and image conflict. The words are only a way of speaking, so the image counts more.",
        "The mood of the text does not fit the picture. The scene is more honest here, so we follow the picture.",
        "There is a conflict between the two. The text is not serious, and the image decides.",
    ),
    Weighing.FACTS_WIN: (
        "Words and colours have a mood, but it belongs to the event and not to the writer. The facts count more.",
        "What looks like a feeling is part of the news that is told. The writer takes no side.",
        "The mood comes from the topic itself. The writer only reports it, so the facts decide.",
        "There are hints of a mood, but they describe the scene. They say nothing about what the writer feels.",
    ),
    Weighing.IMPLIED: (
        "Neither side says it openly, so the situation counts more. Sharing it this way shows a {mood} writer.",
        "Words and colours do not tell the whole story. The topic itself shows how {mood} the writer is.",
        "The mood has to be read between the lines. The way in which this is shared sounds {mood}.",
        "On the surface there is little to see. What the post is about makes the {label} feeling clear.",
    ),
}

CONCLUSION = {
    "both": (
        "Taken together, the post expresses a {label} sentiment{toward}. Words and picture lead the same way.",
        "Overall, the feeling{toward} is {label}. Both text and image support this reading of the post.",
        "The sentiment{toward} is {label}, as both sides of the post show. There is no reason for another reading.",
        "All in all, we read a {label} attitude{toward} from both text and image. The evidence fits together.",
    ),
    "text": (
        "Taken together, the post expresses a {label} sentiment{toward}. The words lead to this reading.",
        "Overall, the feeling{toward} is {label}. The text supports this reading more than the image.",
        "The sentiment{toward} is {label}, as the words of the post show. There is no reason for another reading.",
        "All in all, we read a {label} attitude{toward} from the text. The words are the best evidence.",
    ),
    "image": (
        "Taken together, the post expresses a {label} sentiment{toward}. The picture leads to this reading.",
        "Overall, the feeling{toward} is {label}. The image supports this reading more than the text.",
        "The sentiment{toward} is {label}, as the picture of the post shows. There is no reason for another reading.",
        "All in all, we read a {label} attitude{toward} from the image. The picture is the best evidence.",
    ),
    "situation": (
        "Taken together, the post expresses a {label} sentiment{toward}. The situation leads to this reading.",
        "Overall, the feeling{toward} is {label}. The topic supports this reading more than single words.",
        "The sentiment{toward} is {label}, as the whole situation shows. There is no reason for another reading.",
        "All in all, we read a {label} attitude{toward} from the situation. The topic is the best evidence.",
    ),
}

DECIDED_BY = {
    Weighing.AGREE: "both",
    Weighing.BOTH_NEUTRAL: "both",
    Weighing.TEXT_ALONE: "text",
    Weighing.TEXT_WINS: "text",
    Weighing.IMAGE_ALONE: "image",
    Weighing.IRONY: "image",
    Weighing.IMAGE_WINS: "image",
    Weighing.FACTS_WIN: "situation",
    Weighing.IMPLIED: "situation",
}
