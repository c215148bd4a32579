"""The command line: one file a group of commands. Heavy modules are imported inside the commands."""
