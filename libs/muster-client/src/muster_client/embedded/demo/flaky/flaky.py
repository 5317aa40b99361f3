"""A service that fails: three seconds of work, then exit code 1."""

import sys
import time

if __name__ == "__main__":
    print("working")
    time.sleep(3)
    sys.exit("cannot go on: this is the demo's flaky one")
