"""Products handed to other programs: Ollama, LM Studio, llama.cpp, a folder or repository of the Hugging Face hub.

Nothing here changes a product; what another program is given is a link, a copy, or a text about it. Nothing leaves this
machine but by `push`, and what `push` sends is listed before.
"""
