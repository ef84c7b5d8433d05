"""``python -m tinyddpm`` and the console script."""

import sys

try:
    from tinyddpm.cli.main import main
except KeyboardInterrupt:  # no traceback for whoever stops what has yet to begin
    sys.exit(130)

if __name__ == "__main__":
    main()
