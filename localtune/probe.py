"""What a backend finds on this machine, asked in a process of its own: the asker never loads torch or mlx."""

import json
import subprocess
import sys
from dataclasses import asdict

from localtune.backend import BACKENDS, Device, load_backend
from localtune.errors import LocaltuneError, MachineError, Problem


def probe(name: str) -> Device:
    """The device of the backend `name`; kind "none" and a reason when it is unusable."""
    command = [sys.executable, "-P", "-m", "localtune.probe", name]
    child = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    try:
        value = json.loads(child.stdout.splitlines()[-1])
        return Device(**value | {"dtypes": tuple(value["dtypes"])})
    except (ValueError, IndexError, TypeError, KeyError):
        said = child.stderr.strip().splitlines()
        reason = said[-1] if said else f"the probe ended with {child.returncode}"
        return Device(name, "none", "", 0, (), {}, reason)


def choose(name: str) -> Device:
    """The device of the backend called `name`, or for "auto" the first usable one. Raises `MachineError`."""
    names = list(BACKENDS) if name == "auto" else [name]
    devices = [probe(candidate) for candidate in names]
    for device in devices:
        if device.kind != "none":
            return device
    reasons = "; ".join(f"{device.backend}: {device.reason}" for device in devices)
    raise MachineError(Problem("backend.unusable", reasons, fix="pip install 'localtune[torch]'"))


def main() -> None:
    """Print the device of the backend named on the command line as one line of JSON."""
    try:
        device = load_backend(sys.argv[1]).probe()
    except LocaltuneError as error:
        device = Device(sys.argv[1], "none", "", 0, (), {}, error.problems[0].what)
    sys.stdout.write(json.dumps(asdict(device)) + "\n")


if __name__ == "__main__":
    main()
