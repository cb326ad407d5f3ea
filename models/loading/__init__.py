"""From a folder or hub id to a loaded model."""
