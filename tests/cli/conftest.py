"""The command line in this process, its output as text."""

import sys

import pytest

from numprune_export.cli import app


@pytest.fixture
def printed(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["numprune-export", *arguments])
        with pytest.raises(SystemExit) as exit_:
            app.main()
        captured = capsys.readouterr()
        assert not exit_.value.code, captured.err
        return captured.out

    return call
