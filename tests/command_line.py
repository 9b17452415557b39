"""The command line in this process: a new one would take seconds to start."""

import sys
from pathlib import Path

import pytest

from everlearn.cli import main


class CommandLine:
    """Runs commands in a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        monkeypatch.delenv("EVERLEARN_DATA", raising=False)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("COLUMNS", "100")

    def __call__(self, *words: str, status: int = 0) -> tuple[str, str]:
        """What a command says on standard output and standard error."""
        self.monkeypatch.setattr(sys, "argv", ["everlearn", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = self.capsys.readouterr()
        assert (stopped.value.code or 0) == status, said.err
        return said.out, said.err

    def says(self, *words: str) -> str:
        """What a command that succeeds says."""
        return self(*words)[0]

    def refuses(self, *words: str) -> str:
        """The one plain sentence, on standard error, of a command that is a mistake."""
        said = self(*words, status=2)[1]
        assert len(said.strip().splitlines()) == 1, said
        assert said.startswith("everlearn: ")
        return said
