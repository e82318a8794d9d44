"""What a message may hold, whatever file it quotes."""

import pytest

from common.errors import CheckpointError, DataError, RunError, UserError


@pytest.mark.parametrize("kind", [UserError, DataError, CheckpointError, RunError])
def test_a_message_cannot_steer_the_terminal_or_fill_it(kind):
    title, clear, backwards, lone = "\x1b]0;owned\x07", "\x1b[2J", "\u202e", "\udcff"
    said = str(kind(f"a.npz:\texpected ä ✓,\nfound {title}{clear}{backwards}{lone}\r {'9' * 5000}x"))
    assert said.startswith("a.npz:\texpected ä ✓,\nfound \\x1b]0;owned\\x07\\x1b[2J\\u202e\\udcff\\r 999")
    assert said.endswith("9x") and len(said) < 500
    said.encode()


def test_a_long_path_and_many_words_stay_whole():
    message = f"/{'folder/' * 60}a.npz: expected this, found {'that ' * 500}"
    assert str(UserError(message)) == message


def test_a_message_without_an_end_is_bounded():
    said = str(UserError(f"a.npz: expected this, found {'a b ' * 10_000_000}; try another"))
    assert said.startswith("a.npz: expected this") and said.endswith("; try another") and len(said) < 11_000
