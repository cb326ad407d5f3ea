"""The spellings of published files, as tables: one module for each network."""
