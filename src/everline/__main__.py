"""`python -m everline`."""

from everline.cli.app import main

main()
