"""What every chapter stands on: the home directory, the two planes, the people, and the words said so far."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from everline.demo.processes import Plane
from everline.errors import EverlineError
from everline.sdk.client import Client

ENDPOINT = "flight-delay"
MODEL = "flight-delay"
PIPELINE = "flight_delay:flight_delay"


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the summary: what happened, the evidence for it, the command that shows it again."""

    goal: str
    what: str
    evidence: str
    command: str


class Memory(msgspec.Struct, kw_only=True):
    """What a demo remembers in its home: facts for the summary, and names that later chapters need."""

    chapters: list[str] = []
    facts: list[Fact] = []
    notes: dict[str, Any] = {}
    seconds: float = 0.0


class CommandError(EverlineError):
    """A command of the story failed."""

    code = "command_failed"
    status = 422


class Stage:
    """The running demo."""

    def __init__(self, home: Path, console: Console) -> None:
        self.home = home
        self.folder = home / "demo"
        self.console = console
        self.started = time.monotonic()
        self.memory = self._recall()
        self.control: Plane | None = None
        self.data: Plane | None = None
        self._clients: dict[str, Client] = {}

    # --- what is remembered -----------------------------------------------------------------------

    @property
    def _memory_file(self) -> Path:
        return self.folder / "memory.json"

    def _recall(self) -> Memory:
        if self._memory_file.exists():
            return msgspec.json.decode(self._memory_file.read_bytes(), type=Memory)
        return Memory()

    def remember(self) -> None:
        """Keep the memory; whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self._memory_file.with_suffix(".partial")
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(self.memory), indent=1))
        partial.replace(self._memory_file)

    def note(self, name: str, value: Any) -> None:
        """Remember a value for later chapters."""
        self.memory.notes[name] = value

    def __getitem__(self, name: str) -> Any:
        return self.memory.notes[name]

    def fact(self, goal: str, what: str, *, evidence: str, command: str) -> None:
        """Add a row to the summary."""
        self.memory.facts.append(Fact(goal=goal, what=what, evidence=evidence, command=command))

    # --- who acts ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the control plane and wait for it."""
        self.control = Plane("control-plane", ["server"], home=self.home)
        self.control.wait_ready()

    def open_data_plane(self) -> None:
        """Start the data plane and wait for it; it speaks to the control plane with a machine's token."""
        if self.control is None:
            raise RuntimeError("the control plane runs first")
        arguments = ["serve", "--control-plane", self.control.url]
        self.data = Plane("data-plane", arguments, home=self.home, token=self.token_of("data-plane"))
        self.data.wait_ready()

    def close(self) -> None:
        """Stop both planes, the data plane first: it still ships what it logged."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        for plane in (self.data, self.control):
            if plane is not None:
                plane.stop()
        self.data = self.control = None

    def token_of(self, person: str) -> str:
        """A person's API token, made by the people chapter; kept under the home, readable by its owner only."""
        return (self.folder / "tokens" / person).read_text()

    def keep_token(self, person: str, secret: str) -> None:
        """Write a token where only this user can read it."""
        file = self.folder / "tokens" / person
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_text(secret)

    def as_person(self, name: str | None = None) -> Client:
        """A client that acts as a person of the story; None is the local admin."""
        if self.control is None:
            raise RuntimeError("the control plane runs first")
        key = name or "admin"
        if key not in self._clients:
            token = self.token_of(name) if name else None
            self._clients[key] = Client(self.control.url, home=self.home, token=token)
        return self._clients[key]

    def everline(self, *arguments: str, person: str, accept: tuple[int, ...] = (0,)) -> Any:
        """Run a command of the command line as a person, as a newcomer would, and read its JSON.

        Its progress is told line by line.

        Args:
            accept: exit codes that are answers; 1 is "the answer is no".

        Raises:
            EverlineError: any other exit code, with what the command said.
        """
        if self.control is None:
            raise RuntimeError("the control plane runs first")
        command = [sys.executable, "-m", "everline", *arguments, "--json", "--home", str(self.home)]
        # Idle OpenMP threads sleep instead of spinning: the machine has other work at the same time.
        environment = os.environ | {
            "OMP_WAIT_POLICY": "PASSIVE",
            "EVERLINE_URL": self.control.url,
            "EVERLINE_TOKEN": self.token_of(person),
        }
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
        ) as process:
            said = []
            for line in process.stderr or ():
                said.append(line.strip())
                self.say(line.rstrip())
            output = process.stdout.read() if process.stdout else ""
        if process.returncode not in accept:
            told = " ".join(said[-3:]) or output[-500:]
            raise CommandError(f"`everline {' '.join(arguments)}` ended with {process.returncode}: {told}")
        return msgspec.json.decode(output)

    # --- what is said -----------------------------------------------------------------------------

    def chapter(self, number: int, of: int, title: str) -> None:
        """Begin a chapter on the screen."""
        passed = time.monotonic() - self.started
        self.console.print(f"\n[bold]{number}/{of}  {title}[/bold]  [dim]{passed:.0f} s[/dim]", soft_wrap=True)

    def say(self, text: str) -> None:
        """One line of the story."""
        self.console.print(f"     {text}", highlight=False, soft_wrap=True)

    def progress(self) -> Progress:
        """A progress bar on a terminal; silent elsewhere, where chapters print their own lines."""
        return Progress(
            TextColumn("     {task.description}"),
            BarColumn(bar_width=32),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
