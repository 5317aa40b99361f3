"""One run that is held: its main process by a pidfd, its tree by mark, session and descent."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable

from host_agent.adapters import process_tree
from host_agent.adapters.process_tree import Process, Status
from host_agent.domain.package import Exit

AGAIN_SECONDS = 0.002
"""Until the first look whether what was killed is gone; it doubles, for who waits for a dead disk stays."""
LONGEST_SECONDS = 0.5


class Held:
    """A main process, ours or adopted, and whatever it has made.

    A run ends with its main process: what is left of its tree is killed then, as in a unit or a container.
    The exit code is known of our own children only: the kernel tells it to nobody but the parent.
    """

    def __init__(
        self,
        run: str,
        process: Process,
        handle: int,
        *,
        child: bool,
        mains: set[int],
        at_end: Callable[[], None],
    ) -> None:
        """``mains``: the pids of all main processes that are held, this one among them until its end."""
        self.run = run
        self.process = process
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        """The main process has ended; known within a millisecond."""
        self.over: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        """Nothing of the run is left."""
        self._child = child
        self._handle = handle
        self._at_end = at_end
        self._mains = mains
        mains.add(process.pid)
        self._known: set[Process] = set()
        self._killed: set[Process] = set()
        self._thorough = not child
        self._finishing: asyncio.Task[None] | None = None
        asyncio.get_running_loop().add_reader(handle, self._on_end)

    def close(self) -> None:
        """Look away; it runs on."""
        if self._finishing:
            self._finishing.cancel()
        self._release()
        self.ended.cancel()
        self.over.cancel()

    def send(self, number: int) -> None:
        """Send a signal to the main process.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: it belongs to somebody we may not signal.
        """
        if self._handle < 0 or self.ended.done():
            raise ProcessLookupError
        signal.pidfd_send_signal(self._handle, number)

    def descendants(self) -> list[Status]:
        """Those alive that can be seen without a look at the whole machine."""
        main = self.process.status()
        orphans = self._orphans() if self._child else []
        return self._remember([*process_tree.family([main] if main and main.alive else []), *orphans])

    def _orphans(self) -> list[Status]:
        return process_tree.left_to_us(self.run, self.process, self._known, self._mains)

    def members(self) -> list[Status]:
        """All of the run that are alive, by a look at the whole machine."""
        return self._remember(process_tree.members(self.run, self.process, self._known))

    def signal_tree(self, number: int) -> None:
        """Send a signal to all; again, while there are new ones."""
        done: set[Process] = set()
        while fresh := {one.process: one for one in self.members() if one.process not in done}:
            done |= set(fresh)
            if number == signal.SIGKILL:
                # Before it is sent: the end of the main process, and with it the burial, may come meanwhile.
                self._killed |= set(fresh)
            process_tree.signal_all(fresh.values(), number)

    async def kill(self) -> Exit:
        """SIGKILL to all, until nothing is left."""
        self._thorough = True
        pause = AGAIN_SECONDS
        while not self.ended.done():
            await asyncio.to_thread(self.signal_tree, signal.SIGKILL)
            await asyncio.wait([self.ended], timeout=pause)
            pause = min(LONGEST_SECONDS, pause * 2)
        return await asyncio.shield(self.over)

    def be_thorough(self) -> None:
        """At its end look at the whole machine for what is left of it."""
        self._thorough = True

    def _on_end(self) -> None:
        """The pidfd says that the main process has ended."""
        asyncio.get_running_loop().remove_reader(self._handle)
        if not self.ended.done():
            self.ended.set_result(Exit(_exit_code(self.process.pid) if self._child else None))
            self._finishing = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        """End what is left, then bury the main process: until then its pid and session are its own."""
        pause = AGAIN_SECONDS
        while left := await self._look():
            process_tree.signal_all(left, signal.SIGKILL)
            self._killed |= {status.process for status in left}
            await asyncio.sleep(pause)
            _bury_orphans(self._killed)
            pause = min(LONGEST_SECONDS, pause * 2)
        # Whoever lost its parent after the last look has come to us by now.
        _bury_orphans(self._killed)
        if self._child:
            _bury_group(self.process.pid)
            _bury(self.process.pid)
        self._release()
        self._mains.discard(self.process.pid)
        self._at_end()
        self.over.set_result(self.ended.result())

    async def _look(self) -> list[Status]:
        return await asyncio.to_thread(self.members) if self._thorough else self.descendants()

    def _remember(self, found: list[Status]) -> list[Status]:
        self._known = {status.process for status in found}
        return found

    def _release(self) -> None:
        if self._handle >= 0:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1


def _exit_code(pid: int) -> int | None:
    """Of a child that has ended and stays unburied: a code, or minus a signal's number."""
    try:
        told = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if told is None:
        return None
    return told.si_status if told.si_code == os.CLD_EXITED else -told.si_status


def _bury_orphans(killed: Iterable[Process]) -> None:
    """Those that came to us; others have parents, or come to us once these are dead."""
    for process in killed:
        now = process.status()
        if now and not now.alive and now.parent == os.getpid():
            _bury(process.pid)


def _bury_group(main: int) -> None:
    """Those of a main process's own group that came to us and had died before anybody looked at them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_PGID, main, os.WEXITED | os.WNOHANG):
            pass


def _bury(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
