"""The record of what every job made: an SQLite store, its JSON, and the scan that mends it."""
