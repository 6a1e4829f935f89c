"""`python -m everline`."""

from everline.cli.start import main

main()
