"""`python -m spellbound`: the command line, also for launchers that start modules."""

from spellbound.cli import main

if __name__ == "__main__":
    main()
