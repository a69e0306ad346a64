"""Notifiers: one file each; they tell people, and never fail the task that has something to tell."""
