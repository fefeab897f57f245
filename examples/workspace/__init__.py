"""A small chat as a team would build it: its own database and REST, a page, and jackfield for everything live."""
