"""Judges: everything that gives a candidate a verdict. One file each, usable as a stage by its name."""
