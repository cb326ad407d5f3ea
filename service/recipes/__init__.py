"""Recipes in image files of this program and of others."""
