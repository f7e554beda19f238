"""Sentences of the quickstart's generators: requests, plain replies, and questions about slots.

A domain has up to three sets of request sentences. `known` ones are in the pretraining text
and in all three data files, `extra` ones are in the pretraining text only, `unseen` ones are
in the unseen-phrasing group of `test.jsonl` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Domain:
    """One thing that people ask for or tell, with the slots that its sentences carry."""

    slots: dict[str, str]
    replies: tuple[str, ...]
    questions: dict[str, tuple[str, ...]]
    known: tuple[str, ...] = field(default=())
    extra: tuple[str, ...] = field(default=())
    unseen: tuple[str, ...] = field(default=())


CALL = Domain(
    slots={"name": "name", "time": "time"},
    replies=(
        "Sure, I will call {name} at {time}.",
        "Okay, calling {name} at {time}.",
        "I will ring {name} for you at {time}.",
    ),
    questions={
        "name": ("Who gets the call?", "Which person is that?", "Who should be called?"),
        "time": ("At what time?", "When is the call?", "Which time was given?"),
    },
    known=(
        "Call {name} at {time}.",
        "Please call {name} at {time}.",
        "At {time}, call {name}.",
        "Can you call {name} at {time}?",
        "I want to call {name} at {time}.",
        "Give {name} a call at {time}.",
        "Phone {name} at {time}, please.",
        "Ring {name} at {time}.",
        "I need a call to {name} at {time}.",
        "Could you ring {name} for me at {time}?",
        "At {time} I want to phone {name}.",
        "Dial {name} at {time}.",
    ),
    extra=(
        "It is important that you call {name} at {time}.",
        "My friend {name} expects a call at {time}.",
        "I promised {name} a phone call at {time}.",
        "Plan a call with {name} for {time}.",
        "{name} asked me to ring at {time}.",
        "Connect me to {name} when it is {time}.",
        "When the clock shows {time}, dial {name}.",
        "Start a phone call with {name} at {time} sharp.",
        "Would you get {name} on the line at {time}?",
        "My call with {name} should start at {time}.",
        "Hey, {name} needs to be called at {time}.",
        "The next call is at {time} and goes to {name}.",
    ),
    unseen=(
        "Make a phone call to {name} at {time}.",
        "Let us call {name} when it is {time}.",
        "{name} is waiting for my call at {time}.",
        "Put me through to {name} at {time}.",
        "I would like to speak to {name} at {time}.",
        "Remember that I have to phone {name} at {time}.",
    ),
)

WEATHER = Domain(
    slots={"city": "city", "date": "date"},
    replies=(
        "I will look up the weather in {city} for {date}.",
        "Let me check the sky over {city} on {date}.",
        "The weather in {city} on {date} should be fine.",
    ),
    questions={
        "city": ("Which city is mentioned?", "Where is it?", "What place is meant?"),
        "date": ("Which day is meant?", "On what date?", "Which date was given?"),
    },
    known=(
        "What is the weather in {city} on {date}?",
        "How is the weather in {city} on {date}?",
        "Show me the weather in {city} on {date}.",
        "Will it rain in {city} on {date}?",
        "On {date}, will it be sunny in {city}?",
        "Tell me the forecast for {city} on {date}.",
        "Is it cold in {city} on {date}?",
        "What will the weather be on {date} in {city}?",
        "Give me the forecast for {date} in {city}.",
        "Do I need a coat in {city} on {date}?",
        "Please check the weather in {city} on {date}.",
        "Forecast for {city} on {date}, please.",
    ),
    extra=(
        "I travel to {city} on {date}, will it snow?",
        "Is there a storm over {city} on {date}?",
        "How warm does it get in {city} on {date}?",
        "Could {date} be a dry day in {city}?",
        "Does {city} get sun on {date}?",
        "Look up the temperature in {city} on {date}.",
        "For {date} I need the weather report of {city}.",
        "Should I expect wind in {city} on {date}?",
        "We hike near {city} on {date}, how is the weather?",
        "What does the sky look like on {date} over {city}?",
        "Is {city} going to be hot on {date}?",
        "The weather for {city}, {date}.",
    ),
    unseen=(
        "How hot will it be in {city} on {date}?",
        "Should I take an umbrella to {city} on {date}?",
        "I will be in {city} on {date}, how is the weather there?",
        "Is snow expected in {city} on {date}?",
        "Find out the weather on {date} for {city}.",
        "Can I wear shorts in {city} on {date}?",
    ),
)

BUY = Domain(
    slots={"item": "item", "amount": "number"},
    replies=(
        "Okay, I added {amount} {item} to your list.",
        "Sure, {amount} {item} are on the list now.",
        "I will remember to buy {amount} {item}.",
    ),
    questions={
        "item": ("What is wanted?", "Which goods are meant?", "What should be bought?"),
        "amount": ("How many?", "Which number is mentioned?", "What is the count?"),
    },
    known=(
        "Buy {amount} {item}.",
        "Please buy {amount} {item}.",
        "Put {amount} {item} on the shopping list.",
        "Add {amount} {item} to my list.",
        "I need {amount} {item}.",
        "We need {amount} {item} from the shop.",
        "Can you add {amount} {item} to the list?",
        "Order {amount} {item} for me.",
        "Write down {amount} {item}.",
        "I want to buy {amount} {item}.",
        "Get {amount} {item}, please.",
        "Could you order {amount} {item}?",
    ),
    extra=(
        "The shopping list should have {amount} {item}.",
        "My mother asked for {amount} {item}.",
        "Without {amount} {item} we cannot start, please buy them.",
        "Do not come home without {amount} {item}.",
        "Bring {amount} {item} from the store.",
        "At the market, get {amount} {item}.",
        "For the party I want {amount} {item}.",
        "Would you pick up {amount} {item}?",
        "Send me {amount} {item}.",
        "There should be {amount} {item} in the kitchen, so buy them.",
        "We are short of {item}, get {amount}.",
        "How about {item}? I would like {amount}.",
    ),
    unseen=(
        "We ran out of {item}, please order {amount}.",
        "Do not forget to buy {amount} {item}.",
        "My shopping list needs {amount} {item}.",
        "Please bring me {amount} {item} from the market.",
        "I would like to have {amount} {item}.",
        "Note that we need {amount} more {item}.",
    ),
)

PLAY = Domain(
    slots={"title": "title", "artist": "artist"},
    replies=(
        "Here is {title} by {artist}.",
        "Good choice, playing {title} by {artist}.",
        "Sure, I will play {title} by {artist}.",
    ),
    questions={
        "title": ("What is the song called?", "Which song is meant?", "Name the song."),
        "artist": ("Who is the singer?", "Which artist is it?", "Who made the song?"),
    },
    known=(
        "Play {title} by {artist}.",
        "Please play {title} by {artist}.",
        "I want to hear {title} by {artist}.",
        "Put on {title} by {artist}.",
        "Can you play {title} by {artist}?",
        "Start the song {title} by {artist}.",
        "Play the song {title} from {artist}.",
        "Let me hear {title} from {artist}.",
        "I would like to hear {artist} with {title}.",
        "Play something by {artist}, the song {title}.",
        "From {artist}, play {title}.",
        "Could you put on {title} from {artist}?",
    ),
    extra=(
        "My favourite song is {title} by {artist}, start it.",
        "The radio should play {title} from {artist}.",
        "Find the track {title} by {artist}.",
        "Turn on {title} by {artist} in the kitchen.",
        "Now I need some music: {title} by {artist}.",
        "By {artist} I like {title}, play that.",
        "Dance time! Start {title} by {artist}.",
        "Would you play {artist} for me? The song {title}.",
        "Stream {title}, the new song from {artist}.",
        "Next song: {title} by {artist}.",
        "{artist} wrote {title}, let me hear it.",
        "Sing along with me to {title} by {artist}.",
    ),
    unseen=(
        "I am in the mood for {title} by {artist}.",
        "Turn on the song {title} by {artist}.",
        "Let us listen to {title} from {artist}.",
        "Search for {title} by {artist} and play it.",
        "Give me some music by {artist}, best {title}.",
        "The next song should be {title} by {artist}.",
    ),
)

TIMER = Domain(
    slots={"minutes": "number", "label": "label"},
    replies=(
        "Okay, {minutes} minutes for the {label}, starting now.",
        "The {label} timer runs for {minutes} minutes.",
        "I will tell you when the {minutes} minutes for the {label} are over.",
    ),
    questions={
        "minutes": ("How many minutes?", "How long does it take?", "Which number is mentioned?"),
        "label": ("What is the timer for?", "What is being timed?", "What is it about?"),
    },
    known=(
        "Set a timer for {minutes} minutes for the {label}.",
        "Start a {minutes} minute timer for the {label}.",
        "Timer for the {label}, {minutes} minutes.",
        "Please set {minutes} minutes for the {label}.",
        "The {label} needs {minutes} minutes.",
        "I need a timer of {minutes} minutes for the {label}.",
        "Can you time the {label} for {minutes} minutes?",
        "Set the {label} timer to {minutes} minutes.",
        "Count down {minutes} minutes for the {label}.",
        "Give the {label} {minutes} minutes.",
        "Could you start a timer for the {label} with {minutes} minutes?",
        "Time {minutes} minutes for the {label}, please.",
    ),
    extra=(
        "The {label} is done in {minutes} minutes, watch the clock.",
        "My {label} takes {minutes} minutes.",
        "After {minutes} minutes the {label} must stop.",
        "Beep when the {label} has had {minutes} minutes.",
        "{minutes} minutes of {label}, start now.",
        "Run the clock on the {label} for {minutes} minutes.",
        "Stop me after {minutes} minutes of {label}.",
        "A countdown for the {label}: {minutes} minutes.",
        "Would you watch the {label} for {minutes} minutes?",
        "How about a {label} timer that runs {minutes} minutes?",
        "In {minutes} minutes, check the {label}.",
        "Keep time for the {label}, it needs {minutes} minutes.",
    ),
    unseen=(
        "Remind me about the {label} in {minutes} minutes.",
        "Wake me when the {label} is over in {minutes} minutes.",
        "The {label} should take {minutes} minutes, start the clock.",
        "Let the {label} run for {minutes} minutes.",
        "Tell me when {minutes} minutes of {label} are over.",
        "I want the {label} to stop after {minutes} minutes.",
    ),
)

TAXI = Domain(
    slots={"from": "place", "to": "place"},
    replies=(
        "A taxi will take you from the {from} to the {to}.",
        "Sure, I ordered a taxi from the {from} to the {to}.",
        "Your ride from the {from} to the {to} is on its way.",
    ),
    questions={
        "from": ("Where does it start?", "Where does the ride begin?", "What is the start?"),
        "to": ("Where does it go?", "Where does the ride end?", "What is the goal?"),
    },
    known=(
        "Get me a taxi from the {from} to the {to}.",
        "I need a taxi from the {from} to the {to}.",
        "Book a taxi from the {from} to the {to}.",
        "Please order a taxi to the {to} from the {from}.",
        "Take me from the {from} to the {to}.",
        "Can I get a ride from the {from} to the {to}?",
        "Call a taxi to the {to}, I am at the {from}.",
        "I am at the {from} and need a ride to the {to}.",
        "Send a taxi to the {from}, I want to go to the {to}.",
        "A taxi to the {to} from the {from}, please.",
        "Pick me up at the {from} and drive me to the {to}.",
        "Could you book a ride to the {to} from the {from}?",
    ),
    extra=(
        "My trip starts at the {from} and ends at the {to}.",
        "We leave the {from} and go to the {to} by taxi.",
        "The driver should come to the {from} and bring us to the {to}.",
        "How do I get to the {to} from the {from}? Send a taxi.",
        "Find a car that goes from the {from} to the {to}.",
        "Near the {from} I wait for a taxi to the {to}.",
        "To the {to}, please, I start at the {from}.",
        "From the {from} we have to reach the {to}, get a cab.",
        "Would you drive me to the {to}? I am waiting at the {from}.",
        "Our guests stand at the {from} and must go to the {to}.",
        "Reserve a cab, start at the {from}, end at the {to}.",
        "Bring my friend from the {from} to the {to}.",
    ),
    unseen=(
        "I have to go from the {from} to the {to}.",
        "Find me a driver from the {from} to the {to}.",
        "Arrange a cab to the {to} from the {from}.",
        "I am standing at the {from}, please bring me to the {to}.",
        "We want to leave the {from} and drive to the {to}.",
        "How about a taxi to the {to}? I start at the {from}.",
    ),
)

INTENTS = {"call": CALL, "weather": WEATHER, "buy": BUY, "play": PLAY, "timer": TIMER, "taxi": TAXI}

MAIL = Domain(
    slots={"name": "name", "topic": "label"},
    replies=("I will write to {name} about the {topic}.", "The letter to {name} about the {topic} is ready."),
    questions={
        "name": ("Who gets the letter?", "Which person is that?"),
        "topic": ("What is it about?", "Which topic is meant?"),
    },
    extra=(
        "Write to {name} about the {topic}.",
        "Send {name} a mail about the {topic}.",
        "I want to tell {name} something about the {topic}.",
        "Let {name} know that the {topic} went well.",
        "The {topic} is why I write to {name}.",
        "Answer {name}, who asked about the {topic}.",
    ),
)

PARCEL = Domain(
    slots={"name": "name", "city": "city", "goods": "item"},
    replies=("I will send the {goods} to {name} in {city}.", "{name} in {city} gets the {goods} soon."),
    questions={
        "name": ("Who gets it?", "Which name is mentioned?"),
        "city": ("Which city is mentioned?", "Where does it go?"),
        "goods": ("What is sent?", "What is in the parcel?"),
    },
    extra=(
        "Send the {goods} to {name} in {city}.",
        "{name} from {city} ordered the {goods}.",
        "In {city}, {name} waits for the {goods}.",
        "A parcel with {goods} goes to {name}, who lives in {city}.",
        "Post the {goods} to {city} for {name}.",
    ),
)

TRAVEL = Domain(
    slots={"start": "city", "goal": "city", "date": "date"},
    replies=("I found a train from {start} to {goal} on {date}.", "Your trip to {goal} starts in {start} on {date}."),
    questions={
        "start": ("Where does it start?", "From which city?"),
        "goal": ("Where does it go?", "To which city?"),
        "date": ("On what date?", "Which day is meant?"),
    },
    extra=(
        "On {date} I travel from {start} to {goal}.",
        "Find a train to {goal} from {start} on {date}.",
        "We fly from {start} to {goal} on {date}.",
        "My trip to {goal} begins on {date} in {start}.",
        "A ticket from {start} to {goal} for {date}, please.",
        "I leave {start} on {date} and go to {goal}.",
    ),
)

MEETING = Domain(
    slots={"name": "name", "place": "place", "time": "time"},
    replies=("I noted that you meet {name} at the {place} at {time}.", "Have a good time with {name} at the {place}."),
    questions={
        "name": ("Who is mentioned?", "Which person is that?"),
        "place": ("Where do they meet?", "Which place is meant?"),
        "time": ("At what time?", "When is it?"),
    },
    extra=(
        "I meet {name} at the {place} at {time}.",
        "At {time}, {name} waits at the {place}.",
        "Plan lunch with {name} at the {place} for {time}.",
        "See you at the {place} at {time}, says {name}.",
        "Tell {name} to come to the {place} at {time}.",
        "The {place} opens at {time} and {name} will be there.",
    ),
)

PET = Domain(
    slots={"pet": "name", "owner": "name"},
    replies=("{pet} sounds like a lovely pet.", "Say hello to {owner} and {pet} from me."),
    questions={
        "pet": ("What is the pet called?", "Which animal is meant?"),
        "owner": ("Who is the owner?", "Who has the pet?"),
    },
    extra=(
        "The dog of {owner} is called {pet}.",
        "{owner} has a cat named {pet}.",
        "{pet} is the old horse of {owner}.",
        "My neighbour {owner} feeds a bird named {pet}.",
        "I gave the rabbit {pet} to {owner}.",
    ),
)

STOCK = Domain(
    slots={"amount": "number", "goods": "item", "place": "place"},
    replies=("There are {amount} {goods} at the {place}.", "I noted {amount} {goods} for the {place}."),
    questions={
        "amount": ("How many?", "Which number is mentioned?"),
        "goods": ("What is counted?", "Which goods are meant?"),
        "place": ("Where is it?", "Which place is meant?"),
    },
    extra=(
        "The {place} has {amount} {goods}.",
        "I saw {amount} {goods} at the {place}.",
        "Bring {amount} {goods} to the {place}.",
        "At the {place} we sold {amount} {goods}.",
        "There were {amount} {goods} in front of the {place}.",
    ),
)

BOOK = Domain(
    slots={"title": "title", "writer": "artist", "reader": "name"},
    replies=("{title} by {writer} is a good book.", "I hope that {reader} likes {title}."),
    questions={
        "title": ("What is the book called?", "Which book is meant?"),
        "writer": ("Who wrote it?", "Who is the writer?"),
        "reader": ("Who reads it?", "Who is the reader?"),
    },
    extra=(
        "{reader} reads {title} by {writer}.",
        "The book {title} by {writer} belongs to {reader}.",
        "I gave {reader} the book {title}, written by {writer}.",
        "{writer} wrote {title}, which {reader} likes.",
        "Please lend {title} from {writer} to {reader}.",
    ),
)

LAMP = Domain(
    slots={"room": "place", "level": "number"},
    replies=("The lamp in the {room} is at {level} percent.", "Okay, {level} percent light in the {room}."),
    questions={
        "room": ("Which room is meant?", "Where is the lamp?"),
        "level": ("How bright?", "Which number is mentioned?"),
    },
    extra=(
        "Set the lamp in the {room} to {level} percent.",
        "Make the {room} light {level} percent bright.",
        "Turn the {room} lamp down to {level}.",
        "I want {level} percent light in the {room}.",
        "In the {room}, set the light to {level} percent.",
    ),
)

PASTIMES = (MAIL, PARCEL, TRAVEL, MEETING, PET, STOCK, BOOK, LAMP)
DOMAINS = tuple(INTENTS.values()) + PASTIMES

SMALL_TALK = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi", "Hi there! What can I do for you?"),
    ("Good morning", "Good morning! I hope you slept well."),
    ("Good evening!", "Good evening! How was your day?"),
    ("How are you?", "I am fine, thank you. How are you?"),
    ("Who are you?", "I am a small chat model that helps with little things."),
    ("What is your name?", "I have no name yet, you may pick one."),
    ("What can you do?", "I can chat, repeat words, find facts in a sentence and answer small requests."),
    ("Thank you!", "You are welcome."),
    ("Thanks", "Any time!"),
    ("Goodbye", "Goodbye, see you soon."),
    ("Bye!", "Bye! Have a nice day."),
    ("Tell me a joke.", "Why did the tomato blush? It saw the salad dressing."),
    ("Are you a person?", "No, I am a very small language model."),
    ("What colour is the sky?", "The sky is blue."),
    ("What colour is grass?", "Grass is green."),
    ("What colour is snow?", "Snow is white."),
    ("How many days has a week?", "A week has seven days."),
    ("How many months has a year?", "A year has twelve months."),
    ("What do bees make?", "Bees make honey."),
    ("What do cows drink?", "Cows drink water."),
    ("Is the sun hot?", "Yes, the sun is very hot."),
    ("Do you like music?", "I like to help you find music."),
    ("I am tired.", "Then rest a little, I will be here."),
    ("I am happy today.", "That is good to hear!"),
    ("I am bored.", "How about a walk or a good book?"),
    ("Can you help me?", "Of course, what do you need?"),
    ("What is fine-tuning?", "It is more training on examples of what you want from a model."),
)
