"""A worker: it needs the web service, and says what it heard there."""

import os
import time
import urllib.request

if __name__ == "__main__":
    while True:
        try:
            with urllib.request.urlopen(os.environ["WEB"], timeout=5) as answer:  # noqa: S310  (the demo's own)
                print("heard:", answer.read().decode().strip())
        except OSError as error:
            print("heard nothing:", error)
        time.sleep(2)
