"""The public library: the same rules for programs; `import lffs` names what it offers."""
