"""Talking to a model: what a run made, a model's folder or a GGUF file, behind one `Speaker`.

`opening` finds and loads, `adapters` are LoRA files beside a GGUF, `speakers` answer, `answer` hears one out, `talk` is
a conversation that `commands` change and `kept` keeps rows of, `pipe` lets another program talk. Text comes as it is
drawn, never half a character; it is the model's own and not yet fit for a screen (see `localtune.errors.safe`).
"""
