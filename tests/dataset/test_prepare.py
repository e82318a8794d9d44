"""The command ``python -m dataset.prepare``: names, errors, exit codes."""

import subprocess
import sys

import pytest

from common.errors import DataError, RunError
from dataset import h36m, prepare


@pytest.fixture
def ending(monkeypatch):
    """Runs the command with a conversion that ends in the given way; its exit code."""

    def run(error):
        def convert(options):
            raise error

        monkeypatch.setattr(h36m, "run", convert)
        return prepare.main(["h36m", "--source", "x"])

    return run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("a wrong file"), 2, "error: a wrong file\n"),
        (RunError("a full disk"), 1, "error: a full disk\n"),
        (OSError(5, "Input/output error", "x"), 1, "error: [Errno 5] Input/output error: 'x'\n"),
        (MemoryError(), 1, "error: the memory is full\n"),
        (KeyboardInterrupt(), 130, "stopped; what was converted is kept"),
    ],
)
def test_errors_are_words_and_an_exit_code(ending, capsys, error, code, words):
    assert ending(error) == code
    assert capsys.readouterr().err.startswith(words)


def test_a_fault_of_the_program_is_not_hidden(ending):
    with pytest.raises(ZeroDivisionError):
        ending(ZeroDivisionError())


@pytest.mark.parametrize("argv", [[], ["none"], ["h36m"], ["h36m", "--sorce", "x"], ["--source", "x"]])
def test_wrong_calls(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        prepare.main(argv)
    assert stopped.value.code == 2 and "usage: python -m dataset.prepare" in capsys.readouterr().err


def test_help_names_all_commands_and_imports_none_of_them():
    code = (
        "import sys\nfrom dataset import prepare\ntry: prepare.main(['--help'])\nexcept SystemExit: pass\n"
        "print({'numpy', 'torch', *(module for module, _ in prepare.SETS.values())} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, imported = run.stdout.splitlines()
    assert imported == "set()"
    assert all(any(line.split()[:1] == [name] for line in text) for name in prepare.SETS)


@pytest.mark.parametrize("name", prepare.SETS)
def test_options_of_a_command_do_not_hide_which_it_is(name, monkeypatch):
    called = []

    class Module:
        @staticmethod
        def add_arguments(parser):
            for option in ("--name", "--source", "--command"):
                parser.add_argument(option)

        run = called.append

    monkeypatch.setattr(prepare, "import_module", lambda module: called.append(module) or Module)
    assert prepare.main([name, "--name", "mine", "--source", "x", "--command", "y"]) == 0
    assert called[0] == called[1] == prepare.SETS[name][0] and called[2].name == "mine"
