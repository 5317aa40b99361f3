"""A database of thirty lines: by TCP it counts, in memory, the words it is sent, and answers how many."""

import os
import socketserver
from collections import Counter

counts: Counter[str] = Counter()


class Counting(socketserver.StreamRequestHandler):
    """One line, one number."""

    timeout = 5

    def handle(self) -> None:
        """Count the word of each line that comes; the health check only connects, and says nothing."""
        try:
            for line in self.rfile:
                counts[line.strip().decode()] += 1
                self.wfile.write(b"%d\n" % counts[line.strip().decode()])
        except OSError as error:
            print("somebody went away:", error)


class Server(socketserver.ThreadingTCPServer):
    """As many at once as come."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("127.0.0.1", int(os.environ["DATABASE_PORT"])), Counting) as server:
        print("listening on port", os.environ["DATABASE_PORT"])
        server.serve_forever()
