"""What the Makefile runs to keep the repository true: constraints, import rules, generated documents."""
