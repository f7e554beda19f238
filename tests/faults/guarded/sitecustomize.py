"""Read by every Python that has this folder on PYTHONPATH, children included: who opens a socket is noted and stopped.

SOCKETS_NOTED names the file of the notes, SOCKETS_BY whoever is at work, and SOCKETS_LOOPBACK lets this machine be
asked. Seen is what goes through Python's own sockets, whatever library holds them; what native code opens is not.
"""

import os
import sys
from ipaddress import ip_address
from itertools import islice
from typing import Any

_NOTED = os.environ.get("SOCKETS_NOTED")
_HOSTS = {"socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}
"""Events whose argument of that number is a host."""
_ADDRESSES = {"socket.connect": 1, "socket.bind": 1, "socket.sendto": 1, "socket.sendmsg": 1}
"""Events whose argument of that number is an address; one of another family than the internet's is no tuple."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _HOSTS:
        host = arguments[_HOSTS[event]]
    elif event in _ADDRESSES and isinstance(arguments[_ADDRESSES[event]], tuple):
        host = arguments[_ADDRESSES[event]][0]
    else:
        return
    shown = host.decode() if isinstance(host, bytes) else str(host)
    if not (os.environ.get("SOCKETS_LOOPBACK") and _is_here(shown)):
        _note(f"{os.environ.get('SOCKETS_BY', '')}: {event} {shown}")
        raise PermissionError(f"{event} {shown}: no sockets here")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _note(text: str) -> None:
    frame, callers = sys._getframe(2), []
    while frame.f_back:
        frame = frame.f_back
        callers.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
    line = " < ".join([text, *islice(callers, 12)]) + "\n"
    file = os.open(str(_NOTED), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode("utf-8", "backslashreplace"))
    os.close(file)


if _NOTED:
    sys.addaudithook(_watch)
