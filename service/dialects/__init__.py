"""The APIs of other systems, each a translation of its requests and answers into ours."""
