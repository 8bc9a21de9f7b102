"""The commands of the program, one module or package each."""
