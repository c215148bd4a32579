"""Stages, one file each: `fucina stage NAME` runs any of them alone."""
