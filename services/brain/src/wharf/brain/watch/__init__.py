"""Watches: who wants which events, and how they get them without ever holding up a write."""
