"""Simulation of queues, workers and devices in simulated time, with the worker's own scheduler.

requests   arrivals of requests: Poisson, bursty, traces
devices    step times: measured profiles, and one derived from published figures
policies   serial, request-level, step-level
run        event simulation of one queue and any number of workers
redis      measured cost of a job and of a worker for the Redis server
"""
