"""The commands of the `darkroom` command line, one module each."""
