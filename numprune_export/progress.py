"""How a long run shows itself. The pipeline talks to an Observer; the command line draws it."""

from typing import Protocol


class Observer(Protocol):
    """Told what happens, in order: begin, expect, advance any number of times, end; by stage."""

    def begin(self, stage: str) -> None: ...

    def expect(self, steps: int) -> None:
        """This many steps will follow."""
        ...

    def advance(self, steps: int) -> None: ...

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """`resumed`: nothing was done, an earlier run had finished this stage."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, stage: str) -> None:
        return

    def expect(self, steps: int) -> None:
        return

    def advance(self, steps: int) -> None:
        return

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        return
