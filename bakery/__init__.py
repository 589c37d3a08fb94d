"""Bake an MLflow tracking server into an image and deploy it."""
