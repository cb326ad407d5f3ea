"""The options, tasks and files of each client, kept between its requests."""
