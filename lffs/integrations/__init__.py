"""What fits lffs into one program or another; each module stands for itself."""
