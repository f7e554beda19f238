"""`localtune serve`: a GGUF file for every program that speaks OpenAI's API.

Ctrl+C is how serving ends, so it ends with 0; SIGTERM ends it with 143, and a crash of llama.cpp with 1.
"""

import json
import signal
import sys
from types import FrameType

import click

from localtune.chat.opening import CONTEXT
from localtune.errors import safe
from localtune.serve import Service, served_file
from localtune.typed import WINDOWS, typed

KEY = "LOCALTUNE_SERVE_KEY"


@click.command()
@click.argument("name", metavar="GGUF|RUN", default="last")
@click.option("--lora", "loras", multiple=True, metavar="FILE", help="LoRA beside it; may be given several times.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: a free one.")
@click.option("--key", envvar=KEY, help=f"What clients must send; better in {KEY}. Default: a new one.")
@click.option("--parallel", type=click.IntRange(1, 64), default=1, show_default=True, help="Requests at a time.")
@click.option("--context", type=click.IntRange(16), default=CONTEXT, show_default=True, help="Tokens of each request.")
@click.option("--json", "as_json", is_flag=True, help="URL, key, model and adapters as one line on stdout.")
def serve(
    name: str, loras: tuple[str, ...], port: int | None, key: str | None, parallel: int, context: int, as_json: bool
) -> None:
    """Serve a GGUF file, or the one a run was exported to, to programs on this machine."""
    signal.signal(signal.SIGTERM, _exit)
    path = served_file(name)
    _tell(f"loading {safe(path.name)}")
    with Service(path, loras, port=port or 0, key=key, parallel=parallel, context=context) as service:
        try:
            if as_json:
                click.echo(json.dumps(_summary(service)))
            _introduce(service, made=key is None)
            service.wait()
        except KeyboardInterrupt:
            _tell("ended")


def _summary(service: Service) -> dict[str, object]:
    adapters = [{"id": i, "name": adapter} for i, adapter in enumerate(service.adapters)]
    return {"url": service.url, "key": service.key, "model": service.model, "adapters": adapters}


def _introduce(service: Service, *, made: bool) -> None:
    """What a user needs to ask it; a key that was given is not shown."""
    _tell(f"serving {safe(service.model)} at {service.url}, to this machine only; Ctrl+C ends it")
    if made:
        _tell(f"key: {service.key}")
    for note in service.notes:
        _tell(safe(note))
    for i, adapter in enumerate(service.adapters):
        _tell(f"adapter {i}: {safe(adapter)}" + (", on unless a request says otherwise" if i == 0 else ""))
    if not service.template:
        _tell("no chat template: ask /v1/completions, which continues a text; /v1/chat puts ChatML around it")
    asked: dict[str, object] = {"messages": [{"role": "user", "content": "Hello"}]}
    if not service.template:
        asked = {"prompt": "Hello", "max_tokens": 50}
    if service.adapters:
        asked["lora"] = [{"id": 0, "scale": 1.0}]
    route = "chat/completions" if service.template else "completions"
    _tell(curl(f"{service.url}/{route}", service.key if made else None, asked))
    secret = f'"{service.key}"' if made else f'os.environ["{KEY}"]'
    _tell(f'python: client = openai.OpenAI(base_url="{service.url}", api_key={secret})')


def curl(url: str, key: str | None, asked: dict[str, object], *, windows: bool = WINDOWS) -> str:
    """A question as it can be typed; without a `key` the shell puts in that of the environment."""
    variable = f"%{KEY}%" if windows else f"${KEY}"
    header = "Authorization: Bearer"
    bearer = f'"{header} {variable}"' if key is None else typed(f"{header} {key}", windows=windows)
    rest = typed("-H", "Content-Type: application/json", "-d", json.dumps(asked), windows=windows)
    return f"curl {url} -H {bearer} {rest}"


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
