"""Answers: greedy is the argmax of the logits, samples follow one keyed uniform, no row depends on the others."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest

from localtune.backend import Backend, MemorySpec, Sampling, Session
from localtune.batch import Segment
from tests.contract.conftest import FAMILIES, LORA, VOCABULARY, Opener, rows_of, segment

PROMPTS = [segment(length, 40 + length).tokens.tolist() for length in (5, 17, 1, 9, 9, 30)]
NEVER = (VOCABULARY + 1,)


def answers(pairs: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    found = defaultdict(list)
    for row, token in pairs:
        found[row].append(token)
    return dict(found)


def expected(session: Session, row: int, prompt: list[int], sampling: Sampling) -> list[int]:
    """The same answer without a cache, token by token, with the distribution written out in numpy."""
    tokens = list(prompt)
    while len(tokens) - len(prompt) < sampling.max_tokens:
        logits = session.logits(tokens, [len(tokens) - 1])[0].astype(np.float64)
        tokens.append(choose(logits, row, len(tokens), sampling))
        if tokens[-1] in sampling.stop:
            break
    return tokens[len(prompt) :]


def choose(logits: np.ndarray[tuple[int], np.dtype[np.float64]], row: int, position: int, sampling: Sampling) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / sampling.temperature)
    weights /= weights.sum()
    order = np.lexsort((np.arange(len(weights)), -weights))
    before = np.cumsum(weights[order]) - weights[order]
    weights[order[before >= sampling.top_p]] = 0
    point = np.random.Generator(np.random.Philox(key=sampling.seed, counter=[0, 0, row, position])).random()
    return int(np.searchsorted(np.cumsum(weights), point * weights.sum(), side="right"))


SAMPLINGS = {
    "greedy": Sampling(NEVER, 8),
    "warm": Sampling(NEVER, 8, temperature=4.0, seed=3),
    "nucleus": Sampling(NEVER, 8, temperature=3.0, top_p=0.6, seed=4),
}


ASKED = [(family, "greedy") for family in FAMILIES]
ASKED += [(family, name) for family in ("llama", "gemma3") for name in ("warm", "nucleus")]


@pytest.mark.parametrize(("family", "name"), ASKED)
def test_an_answer_is_drawn_from_the_logits(open_session: Opener, family: str, name: str) -> None:
    sampling = SAMPLINGS[name]
    with open_session(family, LORA) as session:
        said = answers(session.generate(PROMPTS, sampling))
        for row, prompt in enumerate(PROMPTS):
            assert said[row] == expected(session, row, prompt, sampling), row


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_row_does_not_depend_on_the_others(open_session: Opener, family: str) -> None:
    sampling = SAMPLINGS["warm"]
    with open_session(family, LORA) as session:
        together = answers(session.generate(PROMPTS, sampling))
        others = [prompt if row == 3 else [*prompt[::-1], 5, 6] for row, prompt in enumerate(PROMPTS)]
        assert answers(session.generate(others, sampling))[3] == together[3]
        greedy = answers(session.generate(PROMPTS, SAMPLINGS["greedy"]))
        for row, prompt in enumerate(PROMPTS):
            assert answers(session.generate([prompt], SAMPLINGS["greedy"]))[0] == greedy[row]


def test_seed_and_row_decide_a_sample(open_session: Opener) -> None:
    twice = [PROMPTS[0], PROMPTS[0]]
    with open_session("llama", LORA) as session:
        first = answers(session.generate(twice, Sampling(NEVER, 16, temperature=4.0, seed=1)))
        again = answers(session.generate(twice, Sampling(NEVER, 16, temperature=4.0, seed=1)))
        other = answers(session.generate(twice, Sampling(NEVER, 16, temperature=4.0, seed=2)))
    assert first == again
    assert first != other
    assert first[0] != first[1]


def test_a_row_ends_with_its_stop_token_and_leaves_the_block(open_session: Opener) -> None:
    stop = tuple(range(0, VOCABULARY, 6))
    sampling = Sampling(stop, 40, temperature=4.0, seed=9)
    with open_session("gemma3", LORA) as session:
        said = answers(session.generate(PROMPTS, sampling))
        lengths = {len(answer) for answer in said.values()}
        assert len(lengths) > 2  # they ended at different times
        for row, prompt in enumerate(PROMPTS):
            assert said[row][-1] in stop
            assert not set(said[row][:-1]) & set(stop)
            assert said[row] == expected(session, row, prompt, sampling)


def test_eight_examples_are_learned_by_heart_and_answers_end_by_themselves(open_session: Opener) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for number in range(8):
        tokens = np.array([1, 3 + number, *generator.integers(12, VOCABULARY, 8), 2], np.int32)
        weights = np.ones(len(tokens), np.float32)
        weights[:2] = 0
        rows.append(Segment(tokens, weights, number))
    batch = rows_of(rows[:4], rows[4:])
    with open_session("llama", LORA) as session:
        before = answers(session.generate([row.tokens[:2].tolist() for row in rows], Sampling((2,), 20)))
        for step in range(150):
            result = session.train_step([batch], step=step, lr=1e-2)
        assert result.loss / result.weight < 0.05
        said = answers(session.generate([row.tokens[:2].tolist() for row in rows], Sampling((2,), 20)))
    for number, row in enumerate(rows):
        assert said[number] == row.tokens[2:].tolist()
        assert before[number] != said[number]


def test_nothing_is_generated_for_no_tokens_and_an_empty_prompt_is_refused(open_session: Opener) -> None:
    with open_session("llama", LORA) as session:
        assert list(session.generate(PROMPTS, Sampling((2,), 0))) == []
        assert list(session.generate([], Sampling((2,), 4))) == []
        with pytest.raises(ValueError, match="at least one token"):
            list(session.generate([[]], Sampling((2,), 4)))


def test_a_memory_limit_changes_no_answer(open_session: Opener, backend: Backend) -> None:
    for sampling in SAMPLINGS.values():
        said = []
        for limit in (0, 10**9) if backend.probe().kind == "cuda" else (0, 1, 10**9):  # a card keeps to its limit
            with open_session("llama", LORA, memory=MemorySpec(limit)) as session:
                said.append(answers(session.generate(PROMPTS, sampling)))
        assert all(answer == said[0] for answer in said)


def test_training_between_two_tokens_of_an_answer_is_possible(open_session: Opener) -> None:
    batch = rows_of([segment(9, 1)])
    with open_session("llama", LORA) as session:
        answer = session.generate([PROMPTS[0]], Sampling(NEVER, 3))
        next(answer)
        assert session.train_step([batch], step=0, lr=1e-3).applied
        assert len(list(answer)) == 2
