"""The table of docs/reliability.md names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.findall(
    r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
)


def test_every_test_of_the_table_exists() -> None:
    assert len(NAMED) > 20
    assert [
        each for each in NAMED if f"def {each[1]}(" not in (ROOT / each[0]).read_text(encoding="utf-8")
    ] == []


def test_every_fault_test_is_in_the_table() -> None:
    named = {name for _, name in NAMED}
    for path in Path(__file__).parent.glob("test_[dth][rio]*.py"):
        if path.stem != "test_table":
            assert (
                set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)) <= named
            )
