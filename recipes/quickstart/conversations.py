"""Generated conversations for pretraining the quickstart's model.

Five kinds: plain requests with plain replies, questions about a sentence, facts of a sentence
in some notation, copying of words, small talk. No conversation has a JSON object in it, no
value comes from the valid or test part of a pool, and no sentence from the unseen phrasing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from phrases import DOMAINS, SMALL_TALK, Domain
from words import POOLS, Part, digits, draw, made_up_word

Turn = tuple[str, str]
Fact = tuple[str, str]

OPENINGS = ("", "", "", "", "", "", "Hey, ", "Hello, ", "Well, ", "Listen: ", "Okay, ")
CLOSINGS = ("", "", "", "", "", "", " Thanks!", " Thank you.", " It is important.", " Do it soon.")

NOTATIONS: dict[str, Callable[[list[Fact]], str]] = {
    "as pairs": lambda facts: "; ".join(f"{key}={value}" for key, value in facts),
    "as lines": lambda facts: "\n".join(f"{key}: {value}" for key, value in facts),
    "as tags": lambda facts: "".join(f"<{key}>{value}</{key}>" for key, value in facts),
    "as a list": lambda facts: "\n".join(f"- {value}" for _, value in facts),
    "in quotes": lambda facts: ", ".join(f'"{value}"' for _, value in facts),
    "with arrows": lambda facts: ", ".join(f'{key} -> "{value}"' for key, value in facts),
    "in brackets": lambda facts: " ".join(f'[{key} "{value}"]' for key, value in facts),
    "in braces": lambda facts: " ".join(f"{{{key}|{value}}}" for key, value in facts),
    "as settings": lambda facts: "\n".join(f'{key} = "{value}"' for key, value in facts),
    "as a call": lambda facts: "(" + ", ".join(f"'{key}' '{value}'" for key, value in facts) + ")",
}


def fill(rng: random.Random, domain: Domain, made_up: float) -> dict[str, str]:
    """Return a value for each slot of the domain."""
    values = {key: draw(rng, pool, made_up) for key, pool in domain.slots.items()}
    for key, pool in domain.slots.items():
        # Few numbers have one digit, and a model that has seen few of them doubles it.
        if pool == "number" and rng.random() < 0.3:
            values[key] = rng.choice([number for number in POOLS["number"][Part.TRAIN] if len(number) == 1])
        # A second word now and then keeps the end of a value from being the first space.
        if pool in ("item", "label", "place", "city", "name", "artist") and rng.random() < 0.1:
            second = draw(rng, pool, made_up)
            values[key] = f"{values[key]} {second}"
    return values


def sentence(rng: random.Random, domain: Domain, values: dict[str, str]) -> str:
    """Return a sentence of the domain with the values in it."""
    text = rng.choice(domain.known + domain.extra).format(**values)
    return rng.choice(OPENINGS) + text + rng.choice(CLOSINGS)


def plain_request(rng: random.Random, made_up: float) -> list[Turn]:
    """Return a request and its plain reply."""
    domain = rng.choice(DOMAINS)
    values = fill(rng, domain, made_up)
    return [(sentence(rng, domain, values), rng.choice(domain.replies).format(**values))]


def question(rng: random.Random, domain: Domain, key: str) -> str:
    """Return a question that the slot answers."""
    general = (f"What is the {key}?", f"Give me the {key}.", f"{key}?")
    return rng.choice(domain.questions[key] + general)


def answer(rng: random.Random, value: str) -> str:
    """Return the value as a reply, plain or with a little around it."""
    return rng.choice(("{}", "{}", "{}", "{}.", "It is {}.", '"{}"', '"{}"')).format(value)


def questions_about(rng: random.Random, made_up: float) -> list[Turn]:
    """A sentence, then one or more questions that a slot answers."""
    domain = rng.choice(DOMAINS)
    values = fill(rng, domain, made_up)
    keys = rng.choices(list(values), k=rng.choice((2, 3, 4)))
    text, first = sentence(rng, domain, values), question(rng, domain, keys[0])
    opening = rng.choice((f"{text} {first}", f"{first} {text}", f"{text}\n{first}", f'"{text}" {first}'))
    turns = [(opening, answer(rng, values[keys[0]]))]
    return turns + [(question(rng, domain, key), answer(rng, values[key])) for key in keys[1:]]


def facts_in_notation(rng: random.Random, made_up: float) -> list[Turn]:
    """A sentence, and its facts in one or two notations."""
    domain = rng.choice(DOMAINS)
    values = fill(rng, domain, made_up)
    first, second = rng.sample(list(NOTATIONS), 2)
    text, facts = sentence(rng, domain, values), list(values.items())
    verb = rng.choice(("Write the facts", "Give the facts", "Note the facts", "The facts"))
    opening = rng.choice((f"{verb} {first}: {text}", f"{text} {verb} {first}.", f"{text}\n{verb} {first}."))
    turns = [(opening, NOTATIONS[first](facts))]
    if rng.random() < 0.6:
        turns.append((f"Now {second}.", NOTATIONS[second](facts)))
    return turns


def random_words(rng: random.Random, count: int) -> list[str]:
    """Distinct made-up words, at times with capitals or with numbers among them."""
    words: list[str] = []
    style = rng.random()
    while len(words) < count:
        word = made_up_word(rng)
        if style < 0.3:
            word = word.capitalize()
        elif style > 0.75 and rng.random() < 0.5:
            word = digits(rng)
        if word not in words:
            words.append(word)
    return words


def random_facts(rng: random.Random, made_up: float) -> list[Turn]:
    """Facts whose keys are made-up words too."""
    count = rng.choice((2, 2, 3, 4))
    words = random_words(rng, 2 * count)
    facts = list(zip(words[:count], words[count:], strict=True))
    name = rng.choice(list(NOTATIONS))
    joined = ", ".join(f"{key} is {value}" for key, value in facts)
    return [(f"{joined}. Write the facts {name}.", NOTATIONS[name](facts))]


def repeat_words(rng: random.Random, made_up: float) -> list[Turn]:
    """Return a request to say words again, in one of several forms."""
    words = random_words(rng, rng.choice((1, 2, 3, 4, 5, 6, 8)))
    text = " ".join(words)
    asked, reply = rng.choice(
        (
            (f"Repeat: {text}", text),
            (f"Repeat after me: {text}", text),
            (f"Say {text}", text),
            (f"Put this in quotes: {text}", f'"{text}"'),
            (f"Say it twice: {text}", f"{text} {text}"),
            (f"With commas: {text}", ", ".join(words)),
            (f"One per line: {text}", "\n".join(words)),
            (f"Each in quotes: {text}", ", ".join(f'"{word}"' for word in words)),
            (f"Backwards: {text}", " ".join(reversed(words))),
        )
    )
    return [(asked, reply)]


def pick_words(rng: random.Random, made_up: float) -> list[Turn]:
    """Several questions about the places of words in one line."""
    words = random_words(rng, rng.choice((3, 4, 5, 6)))
    spot = rng.randrange(len(words) - 1)
    tasks = [
        ("Say the first word.", words[0]),
        ("Say the second word.", words[1]),
        ("Say the last word.", words[-1]),
        (f"Which word comes after {words[spot]}?", words[spot + 1]),
        (f"Which word comes before {words[spot + 1]}?", words[spot]),
        (f"Leave out {words[spot]}.", " ".join(words[:spot] + words[spot + 1 :])),
        ("The first two words in quotes.", f'"{words[0]}", "{words[1]}"'),
    ]
    chosen = rng.sample(tasks, rng.choice((1, 2, 3)))
    opening = (f"{' '.join(words)}\n{chosen[0][0]}", chosen[0][1])
    return [opening, *chosen[1:]]


def look_up(rng: random.Random, made_up: float) -> list[Turn]:
    """Return questions about pairs of made-up words."""
    count = rng.choice((2, 3, 4))
    words = random_words(rng, 2 * count)
    keys, values = words[:count], words[count:]
    pairs = zip(keys, values, strict=True)
    asked = rng.choices(range(count), k=2)
    turns = [(f"What is {keys[spot]}?", values[spot]) for spot in asked]
    opening = f"{', '.join(f'{key}={value}' for key, value in pairs)}. {turns[0][0]}"
    return [(opening, turns[0][1]), turns[1]]


def small_talk(rng: random.Random, made_up: float) -> list[Turn]:
    """Return a few words of greeting or of common knowledge."""
    return rng.sample(SMALL_TALK, rng.choice((1, 2)))


KINDS: tuple[tuple[Callable[[random.Random, float], list[Turn]], float], ...] = (
    (plain_request, 4.0),
    (questions_about, 4.0),
    (facts_in_notation, 4.5),
    (random_facts, 1.0),
    (repeat_words, 3.0),
    (pick_words, 1.5),
    (look_up, 1.0),
    (small_talk, 1.0),
)


def conversation(rng: random.Random, made_up: float) -> list[Turn]:
    """Return a conversation of some kind."""
    makers, weights = zip(*KINDS, strict=True)
    maker: Callable[[random.Random, float], list[Turn]] = rng.choices(makers, weights)[0]
    return maker(rng, made_up)
