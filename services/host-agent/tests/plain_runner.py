"""A ``ScriptRunner`` as simple as can be, for tests of what calls it."""

import asyncio

from host_agent.ports import CannotRun, Task, Write


class PlainRunner:
    """Runs a program; cancelled, it kills it."""

    def __init__(self) -> None:
        self.ran: list[Task] = []

    async def run(self, task: Task, write: Write) -> int:
        self.ran.append(task)
        try:
            process = await asyncio.create_subprocess_exec(
                *task.argv, cwd=task.directory, env=task.environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            raise CannotRun(f"cannot run {task.argv[0]}: {error.strerror}", "no-executable") from None
        assert process.stdout
        try:
            while chunk := await process.stdout.read(4096):
                await write(chunk)
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
