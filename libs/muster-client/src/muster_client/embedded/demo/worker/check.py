"""The worker's health check: 0 if it heard something lately, 2 if not."""

import sys
import time
from pathlib import Path

LATELY_SECONDS = 10

if __name__ == "__main__":
    try:
        silence = time.time() - Path("heard").stat().st_mtime
    except FileNotFoundError:
        print("it has heard nothing yet")
        sys.exit(2)
    print(f"it heard the web service {silence:.0f} s ago")
    sys.exit(0 if silence < LATELY_SECONDS else 2)
