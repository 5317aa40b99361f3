"""A worker: it needs the web service, says what it heard there, and notes when it last did."""

import os
import time
import urllib.request
from pathlib import Path

if __name__ == "__main__":
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{os.environ['WEB_PORT']}/", timeout=5) as answer:
                print("heard:", answer.read().decode().strip())
            Path("heard").touch()
        except OSError as error:
            print("heard nothing:", error)
        time.sleep(2)
