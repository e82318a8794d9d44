"""The documentation: its Python runs, and the options and files that it shows exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from common.options import parse
from demo import api, vis

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def _calls(program: str) -> list[list[str]]:
    lines = [line for page in PAGES for block in _blocks(page, "sh") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [
        call[2:] for call in words if call[:2] == ["python", program] and not {"--help", "NAME"} & {*call}
    ]


@pytest.mark.parametrize("call", _calls("main.py"), ids=" ".join)
def test_calls_of_main_parse(call):
    parse(call)


@pytest.mark.parametrize("call", _calls("demo/vis.py"), ids=" ".join)
def test_calls_of_the_demo_parse(call):
    vis.parse(call)


def test_demo_page_shows_every_option():
    page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    options = {option for action in vis.build_parser()._actions for option in action.option_strings}
    assert {option for option in options - {"-h", "--help"} if f"{option}" not in page} == set()


def test_python_examples_run(tmp_path):
    """All in one process, each in a scope of its own, beside a copy of the photo.

    Where the 2D networks were not fetched (`make models`), those that need none.
    """
    (tmp_path / "photo.jpg").write_bytes((ROOT / "demo" / "figure" / "astronaut.jpg").read_bytes())
    examples = [text for page in ("README.md", "docs/api.md") for text in _blocks(ROOT / page, "python")]
    assert len(examples) > 5
    if not any(api.DETECTORS.glob("*.tflite")):
        examples = [text for text in examples if not re.search(r"\b(estimate|Estimator)\b", text)]
    code = "\n".join(
        f"exec(compile({text!r}, 'example {n}', 'exec'), {{}})" for n, text in enumerate(examples)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300)
    assert examples and done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
