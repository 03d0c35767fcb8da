"""Operating system: files, locks, signals, memory, processors and user errors."""
