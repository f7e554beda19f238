"""What a person should know of prepared data, in sentences."""

from collections.abc import Mapping, Sequence

import numpy as np

from localtune.batch import Segment
from localtune.data.prepared import TestItem
from localtune.data.segments import lengths
from localtune.data.shapes import Format
from localtune.data.split import TOO_FEW
from localtune.data.tokenizer import Tokenizer
from localtune.errors import safe
from localtune.settings import DataSettings

_COMPARED = 1000
"""Validation rows that are looked for among the training rows."""


def remarks(
    settings: DataSettings,
    form: Format,
    tokenizer: Tokenizer,
    seen: Mapping[str, int],
    train: Sequence[Segment],
    valid: Sequence[Segment],
    items: Sequence[TestItem],
    *,
    context: int | None,
    held_out: bool,
    pieces: bool,
    said: Sequence[str],
) -> tuple[str, ...]:
    """The sentences.

    `seen`: what the renderer counted; `held_out`: validation rows were to be taken from the training rows; `pieces`:
    pieces of a text were, because there are too few rows; `said`: how the files were read.
    """
    notes = [*_beyond(train, valid, items, context), *said]
    if form.unused:
        notes.append(f"not used: {safe(', '.join(form.unused), 200)}")
    if settings.valid == "auto" and held_out and not len(valid):
        notes.append(f"no validation: fewer than {TOO_FEW} rows are too few to hold some out")
    if pieces:
        notes.append(f"validation: {len(valid):,} of {len(train) + len(valid):,} pieces of the text are held out")
    notes += _on_leaks(train, valid)
    return (*notes, *_on_rendering(form, tokenizer, seen))


def _beyond(
    train: Sequence[Segment], valid: Sequence[Segment], items: Sequence[TestItem], context: int | None
) -> list[str]:
    """The warning about examples that are longer than the model was made for, if there are any."""
    if context is None:
        return []
    tests = [max(len(item.segment.tokens), len(item.prompt)) for item in items]
    sizes = np.concatenate([lengths(train), lengths(valid), np.array(tests, np.int64)])
    count = int(np.count_nonzero(sizes > context))
    if not count:
        return []
    are = "1 example is" if count == 1 else f"{count:,} examples are"
    return [f"{are} longer than the {context:,} tokens this model was made for; fix: --set data.max_tokens={context}"]


def _on_leaks(train: Sequence[Segment], valid: Sequence[Segment]) -> list[str]:
    """Validation rows that are trained on say too little of rows that are not."""
    looked = valid[:_COMPARED]
    wanted = {segment.tokens.tobytes() for segment in looked}
    if not wanted:
        return []
    found = {tokens for segment in train if (tokens := segment.tokens.tobytes()) in wanted}
    count = sum(segment.tokens.tobytes() in found for segment in looked)
    if not count:
        return []
    return [f"{count:,} of {len(looked):,} validation rows are training rows too, so the validation loss flatters; "
            "fix: localtune data check FILE --fix dup -o OUT"]  # fmt: skip


def _on_rendering(form: Format, tokenizer: Tokenizer, seen: Mapping[str, int]) -> list[str]:
    notes = []
    if seen["turns"]:
        notes.append("prompt and answer became a user and an assistant turn of the model's chat template")
    elif form.shape == "prompt-completion" and tokenizer.template is None:
        notes.append("the model has no chat template: prompt and completion are learned as plain text")
    if seen["eos-appended"]:
        notes.append("the chat template writes no token after the last answer: eos was appended and is learned")
    if "strftime_now" in (tokenizer.template or ""):
        notes.append("the chat template writes the date of the day the data was prepared")
    if seen["no-bos"]:
        notes.append("the chat template writes no BOS although the tokenizer puts one before raw text; none is trained")
    if seen["own-segment"]:
        notes.append(
            f"in {seen['own-segment']:,} rows the template writes earlier answers differently once the conversation "
            "goes on: each of those is learned in an example of its own"
        )
    if seen["straddled"]:
        notes.append(f"in {seen['straddled']:,} rows the first characters of an answer share a token with the prompt")
    if seen["markup"]:
        notes.append(f"in {seen['markup']:,} texts control tokens are written out and keep their meaning")
    return notes
