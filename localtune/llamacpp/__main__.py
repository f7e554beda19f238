"""The child: llama.cpp's server, loaded as the first line of stdin orders, ending with stdin.

That line is a JSON object: path, key, the seconds that loading may take, and what `ServerOptions` says. It answers with
one line: {"address": "127.0.0.1:PORT"}, or {"missing": why}. A file that does not load ends it with exit code 1, and
stderr says why in llama.cpp's words, or begins a line with `faulthandler`'s "Timeout".

While it loads, llama.cpp tries the file's chat template, which may never end, and Python stands still. Stdin's end is
therefore a signal, for which the C library ends the process (Linux, macOS); on Windows an orphan ends at the latest
with the time for loading.
"""

import ctypes
import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl+C in the terminal is the parent's to answer
    order = json.loads(sys.stdin.readline())
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever C code prints goes to the log
    _end_with_parent()
    try:
        llama = importlib.import_module("xllamacpp")
    except ImportError as error:
        _say(answer, {"missing": str(error)})
        return
    faulthandler.dump_traceback_later(order["seconds"], exit=True)
    server = llama.Server(_parameters(llama, order))
    faulthandler.cancel_dump_traceback_later()
    _say(answer, {"address": server.listening_address.rpartition("/")[2]})
    threading.Event().wait()


def _say(answer: int, said: Mapping[str, str]) -> None:
    os.write(answer, json.dumps(said).encode() + b"\n")


def _end_with_parent() -> None:
    """End with stdin from now on, at once."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    if sys.platform == "win32":
        return
    import fcntl

    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGIO, ctypes.cast(libc._exit, ctypes.c_void_p))
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _end_with_stdin() -> None:
    while os.read(0, 1):  # sys.stdin's lock, held at exit by a waiting thread, would abort the interpreter
        pass
    os._exit(0)  # generation may be under way, and nothing here is worth waiting for


def _parameters(llama: Any, order: Mapping[str, Any]) -> Any:
    parameters = llama.CommonParams()
    parameters.model.path, parameters.api_keys = order["path"], [order["key"]]
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = order["context"], order["parallel"], False
    parameters.kv_unified = False  # each conversation has the context it was promised
    parameters.port, parameters.cache_prompt = order["port"], order["cache"]
    if order["alias"]:
        parameters.model_alias = {order["alias"]}
    parameters.lora_adapters = [llama.CommonAdapterLoraInfo(path, scale) for path, scale in order["adapters"]]
    parameters.n_ctx_checkpoints = 0  # with them, sliding-window models answer wrongly from the second prompt on
    parameters.cache_ram_mib = 0
    parameters.ui, parameters.endpoint_slots, parameters.cors_origins, parameters.offline = False, False, "", True
    parameters.sse_ping_interval = -1  # silence is how the parent knows that computing hangs
    parameters.verbosity = 1  # errors only
    if order["threads"] is not None:
        parameters.cpuparams.n_threads = order["threads"]
    if order["exact"]:
        parameters.cache_type_k = parameters.cache_type_v = llama.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.n_gpu_layers, parameters.no_op_offload, parameters.fit_params = 0, True, False
    return parameters


if __name__ == "__main__":
    main()
