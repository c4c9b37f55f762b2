"""Readers of labelled images: folders, tables, and published layouts."""
