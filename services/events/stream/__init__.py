"""The bus for whoever listens now: one reader a process tells all its listeners."""
