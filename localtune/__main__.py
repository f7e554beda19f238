"""`python -m localtune` is `localtune`."""

from localtune.cli import main

if __name__ == "__main__":
    main()
