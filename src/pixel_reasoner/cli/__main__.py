"""`python -m pixel_reasoner.cli`."""

from pixel_reasoner.cli import main

if __name__ == "__main__":
    main()
