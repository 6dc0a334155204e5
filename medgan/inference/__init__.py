"""Trained networks at work on whole volumes."""
