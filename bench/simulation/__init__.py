"""A worker's queue and device without either: the same scheduler, in simulated time.

requests   who asks for what and when: Poisson, bursty, traces
devices    what a step costs: measured profiles, and one derived from public figures
policies   serial, request-level, step-level
run        the events of one queue and any number of workers
redis      what a job and a worker cost the Redis server, measured
"""
