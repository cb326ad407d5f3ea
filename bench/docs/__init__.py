"""Commands that write parts of the documents."""
