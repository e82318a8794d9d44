"""The README's words, taken at their word."""

import re
import shlex
from pathlib import Path

import pytest

from common.arguments import parse
from demo.lib import arguments as demo_arguments

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line.strip()]


def commands(program: str) -> list[list[str]]:
    """The arguments of every call of a program in the README."""
    split = [shlex.split(line, comments=True) for line in COMMANDS]
    return [words[2:] for words in split if words[:2] == ["python", program]]


@pytest.mark.parametrize("argv", commands("main.py"), ids=" ".join)
def test_its_calls_of_main_are_right(argv: list[str]) -> None:
    if argv != ["--help"]:
        parse(argv)


@pytest.mark.parametrize("argv", commands("demo/vis.py"), ids=" ".join)
def test_its_calls_of_the_demo_are_right(argv: list[str]) -> None:
    demo_arguments.parse(argv)


def test_it_shows_calls_of_both() -> None:
    assert len(commands("main.py")) > 8 and len(commands("demo/vis.py")) > 2


def test_its_python_runs() -> None:
    scope: dict = {}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(text, scope)
    assert scope["pose"].shape == (1, 1, 17, 3)


def test_its_files_and_folders_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
