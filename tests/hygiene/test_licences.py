"""Every licence of what an installation brings is one that may be used, or is named with a reason."""

import sys
from email.message import Message
from importlib.metadata import Distribution

import pytest

from tests import goals
from tests.hygiene.licences import ALLOWED, ELSEWHERE, NAMED, allowed, installed, licence, named, notices
from tests.hygiene.locks import lock

LOCKS = ("cpu-test", "linux-cuda", "mac-mlx")


def test_everything_installed_may_be_used(goal: goals.Reached) -> None:
    packages = installed()
    assert {"numpy", "pydantic", "pytest"} <= {package.metadata["Name"] for package in packages}
    refused = {p.metadata["Name"]: licence(p) for p in packages if not allowed(licence(p))}
    assert not {name: text for name, text in refused.items() if not named(name)}
    goal("installs", f"licences: {len(packages)} packages installed here, all on the list")


@pytest.mark.skipif(sys.platform != "linux", reason="what is not installed under Linux is listed")
def test_everything_else_in_a_lock_is_listed_with_its_licence() -> None:
    here = {package.metadata["Name"].lower().replace("_", "-").replace(".", "-") for package in installed()}
    locked = {name for lock_ in LOCKS for name in lock(lock_)}
    assert {name for name in locked - here if not named(name)} == set(ELSEWHERE)
    assert set(ELSEWHERE.values()) <= ALLOWED
    for pattern in NAMED:
        assert any(named(name) == NAMED[pattern] for name in locked), pattern


@pytest.mark.parametrize(
    "text",
    ["GPL-3.0-only", "AGPL-3.0-or-later", "LGPL-2.1-only", "MIT AND GPL-2.0-only", "GNU General Public License v3", ""],
)
def test_a_copyleft_or_unknown_licence_is_refused(text: str) -> None:
    assert not allowed(text)


def test_one_of_several_licences_is_enough() -> None:
    assert allowed("GPL-2.0-only OR MIT")
    assert allowed("MIT AND BSD-3-Clause")


class _Package(Distribution):
    def __init__(self, **lines: str) -> None:
        self.lines = lines

    def read_text(self, filename: str) -> str | None:
        message = Message()
        for name, value in self.lines.items():
            message[name.replace("_", "-")] = value
        return message.as_string() if filename == "METADATA" else None

    def locate_file(self, path: object) -> object:  # type: ignore[override]
        raise FileNotFoundError(path)


def test_a_licence_is_found_wherever_metadata_has_it() -> None:
    assert licence(_Package(License_Expression="MIT OR Apache-2.0", License="other")) == "MIT OR Apache-2.0"
    assert licence(_Package(License="BSD-3-Clause")) == "BSD-3-Clause"
    gpl = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
    assert licence(_Package(License="x" * 300, Classifier=gpl)) == "GNU General Public License v3 (GPLv3)"
    assert not allowed(licence(_Package(Classifier=gpl)))
    assert licence(_Package(Name="silent")) == ""


def test_the_notices_hold_the_text_of_every_licence() -> None:
    text = notices([package for package in installed() if package.metadata["Name"] in ("click", "pydantic")])
    assert text.startswith("click ")
    assert "Copyright 2014 Pallets" in text
    assert "\npydantic " in text
    assert text.count("Permission is hereby granted") == 1
