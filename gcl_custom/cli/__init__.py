"""The command line, and the interface for notebooks."""
