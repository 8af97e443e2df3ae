"""Forebay: an edge agent that checks, masks, infers on and accounts for sensor data."""

__version__ = "0.1.0"
