"""Words and values that the quickstart's generators draw from.

Every pool of values is cut in three parts that share nothing: the `train` part fills the
pretraining text and `train.jsonl`, the `valid` part fills `valid.jsonl` only, the `test` part
fills `test.jsonl` only. Made-up words are cut the same way, by a checksum of the word.
"""

from __future__ import annotations

import random
import zlib
from enum import Enum


def listed(text: str) -> list[str]:
    """Return the words of a text, which is easier to read than a list of quoted words."""
    return text.split()


NAMES = listed("""Mia Tom Anna Ben Clara David Ella Felix Greta Hugo Ida Jonas Karl Lena Max Nora Oscar Paula
Robin Sara Theo Uma Vera Zoe Alma Bruno Carmen Dana Emil Flora Gina Henry Iris Jack Kira Leo Mara Nils
Olga Pia Quinn Rita Simon Tara Viktor Wanda Yara Adam Bella Cleo Dora Erik Fiona Gustav Hanna Ivan Julia
Kevin Laura Martin Nina Otto Petra Ralf Sofia Tina Ulla Vito Wilma Amir Bea Carlo Dario Edda Frida Gloria
Hector Ines Jasper Klara Lukas Mona Noah Olivia Pavel Rosa Stefan Tilda Valentin Walter Xenia Yusuf Zara
Agnes Boris Celia Doris Edgar""")

CITIES = listed("""Oslo Rome Paris Berlin Madrid Vienna Lisbon Dublin Prague Warsaw Athens Milan Turin Naples
Lyon Nice Geneva Zurich Basel Munich Hamburg Bremen Cologne Leipzig Dresden Krakow Riga Tallinn Vilnius
Helsinki Bergen Malmo Aarhus Ghent Bruges Antwerp Utrecht Rotterdam Porto Seville Valencia Granada Bilbao
Malta Cairo Tunis Lagos Nairobi Accra Dakar Delhi Mumbai Lima Quito Bogota Caracas Havana Boston Chicago
Denver Dallas Austin Seattle Portland Toronto Montreal Ottawa Sydney Perth Hobart Auckland Tokyo Osaka
Kyoto Nagoya Seoul Busan Hanoi Manila Jakarta Lahore Tehran Ankara Izmir Beirut Amman Zagreb
Belgrade Ljubljana Salzburg Graz Linz""")

ITEMS = listed("""apples lemons onions carrots potatoes tomatoes bananas pears plums cherries oranges melons
peaches grapes figs dates nuts eggs rolls buns muffins cookies pies cakes pretzels bagels crackers noodles
sausages olives peppers radishes beets leeks turnips pumpkins cucumbers mushrooms candles towels napkins
sponges bulbs batteries pencils stamps envelopes notebooks bowls plates cups forks spoons knives pans lids
jars bottles bags boxes baskets brushes buckets ropes nails screws hooks pots seeds roses tulips bricks
tiles pillows blankets curtains socks gloves scarves hats belts shirts mangoes kiwis limes apricots
shallots chestnuts waffles pancakes tarts lentils""")

LABELS = listed("""pasta rice bread soup pizza laundry dryer oven coffee cocoa roast stew salad dough pudding
curry sauce omelette yoga stretching reading homework piano guitar workout meditation nap break shower bath
meeting puzzle chess game movie painting drawing knitting sewing ironing vacuum dishes compost sprinkler
kettle grill barbecue lasagna risotto porridge quiche gratin goulash chili dumplings toast popcorn custard
meringue broth tea violin drums trumpet jogging plank sauna kiln glue varnish plaster concrete""")

PLACES = listed("""station museum library harbour airport stadium theatre castle cathedral bridge park
school college hospital bakery cinema hotel hostel embassy factory temple garden tower fountain palace zoo
aquarium gallery arena beach lake forest village office bank pharmacy church chapel monastery mill farm
vineyard brewery depot terminal marina lighthouse observatory planetarium courthouse workshop warehouse
quarry campus dormitory clinic playground plaza mall arcade casino opera circus fairground racetrack
gym pool spa""")

FIRST_TITLE_WORDS = listed("""Silver Golden Broken Silent Velvet Crystal Distant Hidden Frozen Burning Electric
Paper Midnight Summer Winter Autumn Crimson Purple Empty Gentle Wild Lonely Lucky Sleepy Dusty Bitter Sweet
Ancient Hollow Shining Falling Rising Dancing Endless Secret Copper Scarlet Marble Wooden Quiet Restless
Tender Fading Drifting Stormy Cloudy Amber Ivory Neon Plastic Magnetic Wandering Floating""")

SECOND_TITLE_WORDS = listed("""Rain River Mountain Ocean Heart Dream Shadow Mirror Window Garden Bridge Road Train
Moon Sun Star Fire Stone Bird Wolf Fox Tiger Horse Whisper Thunder Echo Candle Lantern Letter Photograph
Island Desert Meadow Harbor Feather Compass Anchor Diamond Carousel Satellite Engine Machine Kingdom
Parade Picnic Balloon Umbrella Sparrow Falcon Orchid Willow Canyon Glacier Comet""")

MONTHS = listed("""January February March April May June July August September October November December""")

ONSETS = [
    *listed("""b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sch sh sk sl sm sn sp
st str t th tr v w wh y z"""),
    "",
]
VOWELS = listed("a e i o u a e i o u ai au ea ee ei ia ie io oa oo ou y")
CODAS = listed("b ck d f g k l ld ll lm m mb n nd ng nk nt p r rd rk rn rt s sk ss st t th v x z") + [""] * 14
LETTERS = "abcdefghijklmnopqrstuvwxyz"

NATURAL_WORDS = frozenset(
    word.lower() for word in NAMES + CITIES + ITEMS + LABELS + PLACES + FIRST_TITLE_WORDS + SECOND_TITLE_WORDS
)
PROPER_POOLS = ("name", "city", "artist")


class Part(Enum):
    """What a value may be used for."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


Pool = dict[Part, tuple[str, ...]]


def part_of_number(number: int) -> Part:
    """One in three is for the test, one in nine for validation."""
    return {2: Part.TEST, 5: Part.TEST, 8: Part.TEST, 4: Part.VALID}.get(number % 9, Part.TRAIN)


def part_of_word(word: str) -> Part:
    """Return the part that a made-up word belongs to."""
    return part_of_number(zlib.crc32(word.lower().encode()))


def cut(values: list[str]) -> Pool:
    """Deal the values out to the parts."""
    numbered = list(enumerate(values))
    return {part: tuple(value for index, value in numbered if part_of_number(index) is part) for part in Part}


def title_pool() -> Pool:
    """Return titles of two words, both from the title's own part."""
    first, second = cut(FIRST_TITLE_WORDS), cut(SECOND_TITLE_WORDS)
    return {part: tuple(f"{one} {two}" for one in first[part] for two in second[part]) for part in Part}


def clock_times() -> list[str]:
    """Return the times of a day, five minutes apart."""
    return [f"{hour}:{minute:02d}" for hour in range(1, 13) for minute in range(0, 60, 5)]


def calendar_days() -> list[str]:
    """Return the days that every month has."""
    return [f"{day} {month}" for month in MONTHS for day in range(1, 29)]


POOLS = {
    "name": cut(NAMES),
    "city": cut(CITIES),
    "item": cut(ITEMS),
    "label": cut(LABELS),
    "place": cut(PLACES),
    "title": title_pool(),
    "time": cut(random.Random(1).sample(clock_times(), 144)),
    "date": cut(random.Random(2).sample(calendar_days(), 336)),
    "number": cut([str(number) for number in random.Random(3).sample(range(2, 100), 98)]),
}


# Only words for training are taken apart, so that no piece of another one is given away.
WORDS_TO_SPLICE = sorted(
    {
        word.lower()
        for pool in ("name", "city", "item", "label", "place", "title")
        for value in POOLS[pool][Part.TRAIN]
        for word in value.split()
    }
)


def syllable_word(rng: random.Random) -> str:
    """Return one to three syllables that can be spoken."""
    count = rng.choice((1, 2, 2, 2, 3))
    parts = [rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(count)]
    return "".join(parts)


def spliced_word(rng: random.Random) -> str:
    """The head of one word joined to the tail of another one."""
    head, tail = rng.choice(WORDS_TO_SPLICE), rng.choice(WORDS_TO_SPLICE)
    return head[: rng.randint(1, len(head) - 1)] + tail[rng.randint(1, len(tail) - 1) :]


def letter_word(rng: random.Random) -> str:
    """Return a few letters without any order."""
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(2, 5)))


def made_up_word(rng: random.Random, part: Part = Part.TRAIN) -> str:
    """A word of two to ten letters that is in no list, from the asked part."""
    while True:
        make = rng.choices((syllable_word, spliced_word, letter_word), (5, 4, 1))[0]
        word = make(rng)
        if 2 <= len(word) <= 10 and word not in NATURAL_WORDS and part_of_word(word) is part:
            return word


def made_up_value(rng: random.Random, pool: str, part: Part) -> str:
    """A made-up value that looks like those of the pool."""
    word = made_up_word(rng, part)
    if pool == "title":
        return f"{word.capitalize()} {made_up_word(rng, part).capitalize()}"
    return word.capitalize() if pool in PROPER_POOLS else word


def draw(rng: random.Random, pool: str, made_up: float, part: Part = Part.TRAIN) -> str:
    """A value of the pool; where the pool holds words, made up with the given chance."""
    open_ended = pool not in ("time", "date", "number")
    if pool == "artist" or (open_ended and rng.random() < made_up):
        return made_up_value(rng, pool, part)
    return rng.choice(POOLS[pool][part])


def digits(rng: random.Random) -> str:
    """A number or a clock time to copy."""
    longer = str(rng.randint(100, 99_999))
    return rng.choice((longer, rng.choice(POOLS["number"][Part.TRAIN]), rng.choice(POOLS["time"][Part.TRAIN])))
