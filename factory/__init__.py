"""The machinery: command line, stages, runner, run directory, engines, report. It knows rows, but no judge."""
