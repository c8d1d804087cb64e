"""Hiding, restoring and reaping: the dangerous part.

`plan` decides and can't delete; `trash` moves and deletes single files and decides nothing;
`service` carries plans out and keeps the store true to the disk at every step.
"""
