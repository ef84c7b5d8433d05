"""``python -m tinyddpm`` and the console script."""

from tinyddpm.cli.main import main

if __name__ == "__main__":
    main()
