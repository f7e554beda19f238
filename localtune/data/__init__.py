"""From a file of rows to the segments a backend trains on.

`rows` reads files strictly, `conversations` brings rows into normal form, `tokenizer` and `template` turn them into
text and ids, `render` decides which tokens are learned, `prepare` does all of it and reports; `order` and `packing`
say which examples form which update. Nothing here knows a framework.
"""
