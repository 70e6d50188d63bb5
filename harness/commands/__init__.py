"""The commands, one a module: its docstring is its help, `arguments` declares what it takes, `run` does it.

bench.py lists them. They may import every room of the harness and the reports; nobody imports them.
"""
