"""The files of a run: written, read back, resumed from."""
