"""Engines: who answers and who scores. One file each, loaded by name."""
