"""Georeferenced maps of scenes, in bounded memory."""
