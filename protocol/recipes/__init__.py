"""Recipes: the text of a request inside an image file, ours and AUTOMATIC1111's."""
