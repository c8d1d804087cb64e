"""Mounts and the process behind one: the mount table, options, the background, unmounting."""
