"""Beside the agent of H1: the server its checks look at, and the least that 500 looks can be.

``serve PORT`` answers HTTP and hangs up. ``floor PORT COUNT EVERY SECONDS`` is a bare loop with one timer for
each look, which connects and hangs up; it prints as JSON how late its looks began, and its CPU time.
"""

import asyncio
import contextlib
import json
import socket
import sys
import time

_BODY = b"well"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n" + _BODY


async def serve(port: int) -> None:
    """Answer until killed; whoever says nothing is hung up on when it does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_ANSWER)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def floor(port: int, count: int, every: float, seconds: float) -> None:
    """Connect from so many timers, evenly spread, and tell what that took."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    began, used = loop.time(), time.process_time()

    def look(due: float) -> None:
        late.append(loop.time() - due)
        loop.call_at(due + every, look, due + every)
        tasks.add(task := loop.create_task(connect()))
        task.add_done_callback(tasks.discard)

    async def connect() -> None:
        connection = socket.socket()
        connection.setblocking(False)  # noqa: FBT003  (its only parameter)
        with connection:
            await loop.sock_connect(connection, ("127.0.0.1", port))

    tasks: set[asyncio.Task[None]] = set()
    for number in range(count):
        due = began + every * number / count
        loop.call_at(due, look, due)
    await asyncio.sleep(seconds)
    cpu = (time.process_time() - used) / (loop.time() - began)
    sys.stdout.write(json.dumps({"late": late, "cpu": cpu}))


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    if what == "serve":
        asyncio.run(serve(int(numbers[0])))
    else:
        asyncio.run(floor(int(numbers[0]), int(numbers[1]), float(numbers[2]), float(numbers[3])))
