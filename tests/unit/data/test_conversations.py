from localtune.data.conversations import Conversation, Message, Pair
from localtune.data.rows import Place

PLACE = Place("a.jsonl", 1)


def test_a_pair_is_a_conversation_of_two_turns() -> None:
    turns = (Message("user", "a"), Message("assistant", "b"))
    assert Pair(PLACE, "a", "b", group="sums").as_conversation() == Conversation(PLACE, turns, "sums")


def test_the_system_turn_of_a_pair_comes_first() -> None:
    messages = Pair(PLACE, "a", "b", "s").as_conversation().messages
    assert [message.role for message in messages] == ["system", "user", "assistant"]
    assert messages[0].content == "s"
