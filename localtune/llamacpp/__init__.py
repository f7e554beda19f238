"""llama.cpp in a process of its own, asked over loopback, since C code may abort, print and take memory.

`LlamaServer` starts `python -P -m localtune.llamacpp`, which embeds llama.cpp's server (the `xllamacpp` wheel), binds a
free port of 127.0.0.1 under a random key that only the two know, and ends when its stdin closes: with the process that
started it, however that ends and whatever is computed. Who serves others starts a `Child` with a port and a key of
their own.
"""

from localtune.llamacpp.child import Child
from localtune.llamacpp.options import ServerOptions
from localtune.llamacpp.server import Completed, Ended, LlamaServer, Messages

__all__ = ["Child", "Completed", "Ended", "LlamaServer", "Messages", "ServerOptions"]
