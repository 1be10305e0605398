"""`python -m gdpo.cli` is the `gdpo` command."""

from gdpo.cli.main import main

if __name__ == "__main__":
    main()
