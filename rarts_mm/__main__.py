"""``python -m rarts_mm COMMAND ...`` is ``rarts-mm COMMAND ...``."""

from .console import main

if __name__ == "__main__":
    main()
