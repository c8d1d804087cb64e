"""The command line: arguments in, calls to the layers below, rows or JSON out."""
