"""The routes: each says what happens, the files around this folder say how."""
