"""`python -m medgan.cli`."""

from medgan.cli import main

main()
