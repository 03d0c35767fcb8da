"""What the operating system offers: files, locks, signals, memory and processors."""
