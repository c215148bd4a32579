"""Recipes, the stages they name, and the formats they write."""
