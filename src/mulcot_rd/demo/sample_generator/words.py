"""The words and sentence frames of the sample's posts.

Every cue stands in VADER's lexicon (Hutto and Gilbert, 2014) with the sign it has here; no other word of the frames
stands there, so that a plain fact carries no sentiment at all. Both are tested.

Slots of the frames: ``{X}`` aspect; ``{a} {b} {c}`` cue adjectives; ``{v}`` cue verb; ``{t1} {t2}`` parts of the aspect
and ``{prep}`` the preposition that joins them to it; ``{time} {day} {weekday} {hour} {person} {n}`` circumstances.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of named thing: its names, its parts, and the preposition between the two."""

    names: tuple[str, ...]
    parts: tuple[str, ...]
    preposition: str


KINDS = (
    Kind(("Cafe Aurora", "Copper Kettle", "Blue Door Bakery", "Harbour Grill"), ("menu", "coffee", "soup"), "at"),
    Kind(("Paper Lanterns", "Northern Static", "Velvet Avenue", "Juniper Road"), ("singer", "concert", "song"), "of"),
    Kind(("Riverside Rovers", "Kingsport City", "Hill Town Hawks", "Lakeside Lions"), ("match", "coach", "goal"), "of"),
    Kind(("Willow Park", "Stone Bridge Garden", "Maple Lake", "Fern Valley"), ("picnic", "walk", "path"), "at"),
    Kind(("Silent Orbit", "Glass Orchard", "Midnight Ferry", "Seven Rivers"), ("story", "ending", "plot"), "of"),
    Kind(("Nova Seven", "Pixelia Mini", "Zenit Fold", "Tundra Phone"), ("screen", "camera", "battery"), "of"),
    Kind(("Harbour Museum", "Old Mill Gallery", "Map Museum", "Clock Tower Gallery"), ("tour", "hall", "guide"), "at"),
    Kind(("Coastline Rail", "Northway Air", "City Tram", "Island Bus"), ("trip", "seat", "crew"), "on"),
)

POSITIVE_ADJECTIVES = (
    "wonderful", "amazing", "lovely", "fantastic", "excellent", "brilliant", "delightful", "beautiful", "perfect",
    "superb", "great", "awesome", "charming", "magnificent", "splendid", "joyful", "glorious", "pleasant", "nice",
    "impressive", "inspiring", "fabulous",
)  # fmt: skip
POSITIVE_VERBS = ("loved", "enjoyed")
NEGATIVE_ADJECTIVES = (
    "terrible", "awful", "horrible", "boring", "dreadful", "disappointing", "miserable", "nasty", "pathetic",
    "depressing", "lousy", "annoying", "frustrating",
)  # fmt: skip
NEGATIVE_VERBS = ("hated", "regretted")
# Negative words that people also say of what they love: what they mean, the picture tells.
SLANG_ADJECTIVES = ("insane", "ridiculous", "crazy", "sick", "wicked", "brutal", "savage")
SLANG_VERBS = ("killing", "crying")

POSITIVE_CUES = POSITIVE_ADJECTIVES + POSITIVE_VERBS
NEGATIVE_CUES = NEGATIVE_ADJECTIVES + NEGATIVE_VERBS + SLANG_ADJECTIVES + SLANG_VERBS

# Said as meant, praise or complaint alike.
PLAIN_FRAMES = (
    "What a {a} {day}, the {t1} {prep} {X} was {b} and the {t2} was {c}",
    "We {v} {X} {time}, a {a} {t1} and a {b} {t2} from start to end",
    "{X} was simply {a} {time}, the {t1} is {b} and I told everybody",
    "I {v} every minute of {X} {time}, such a {a} {t1}",
    "A {a} {t1}, a {b} {t2} and a {c} {day}, that is {X} for you",
    "My {person} and I {v} the {t1} {prep} {X}, it felt {a} and {b}",
    "Short review of {X} {time}: the {t1} is {a} and the {t2} is {b}",
    "The {t1} {prep} {X} turned out {a}, what a {b} and {c} {day}",
)
# Praise that may be meant or ironic.
PRAISE_FRAMES = (
    "Just what I needed, another {a} {day} with {X}, how {b}",
    "Oh how {a}, {X} again {time}, what a {b} way to end the week",
    "So {X} is every bit as {a} as they told us, simply {b}",
    "Another {a} {t1}, {X} really knows how to make a {day} {b}",
    "Look at this {a} {t1} {prep} {X}, how {b} of them",
    "Of course {X} gave us a {a} {day} {time}, how very {b}",
)
# Strong words that may be meant or slang for delight.
SLANG_FRAMES = (
    "{X} is killing me {time}, this {t1} is {a} and {b}",
    "I am crying, the {t1} {prep} {X} is {a} {time}",
    "Hold on, the {t1} {prep} {X} is {a} and {b}, what is this",
    "{X} is killing us all, how {a} is this {t1} {time}",
    "Everybody here is crying over {X}, that {t1} was {a} {time}",
    "What a {a} {t1}, {X} is {b} and we need to talk",
)
FACT_FRAMES = (
    "A picture of {X} that my {person} took {time} around {hour}",
    "Somebody asked about {X}, here is how it looked {time} around {hour}",
    "First time with {X} {time}, here is the photo from {hour}",
    "We are looking at {X} again {time}, photo by my {person}",
    "My {person} sent me this photo of {X} {time} at {hour}",
    "Reading about the {t1} {prep} {X} {time} with my {person}",
    "The {t1} {prep} {X} is on page {n} of the {weekday} paper",
    "On {weekday} at {hour} we talk about the {t1} {prep} {X}",
    "They announced the new {t1} {prep} {X} on {weekday} at {hour}",
    "How {X} looked {time}, seen by my {person} around {hour}",
    "This is {X} on {weekday}, the photo is from {hour}",
    "My {person} wrote {n} lines about the {t1} {prep} {X} {time}",
)

TIMES = ("today", "tonight", "this morning", "last night", "this weekend", "on Friday", "after work", "yesterday")
DAYS = ("evening", "morning", "afternoon", "day")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday")
HOURS = ("six", "seven", "eight", "nine", "ten", "noon")
PERSONS = ("sister", "brother", "cousin", "neighbour", "uncle")
NUMBERS = ("two", "three", "four", "five", "twelve")
