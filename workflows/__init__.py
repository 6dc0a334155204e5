"""One file per workflow, each readable from top to bottom; the command line calls them."""
