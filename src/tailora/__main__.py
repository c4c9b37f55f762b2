"""`python -m tailora`."""

from tailora.cli.main import main

main()
