"""Processes by a name that no other one has, and whether they have ended."""

import socket

import psutil


def identity(process: psutil.Process | None = None) -> str:
    """`process`, or this one, as `HOST PID START`: process ids alone are used again."""
    process = process or psutil.Process()
    return f"{socket.gethostname()} {process.pid} {process.create_time():.0f}"


def has_ended(process: str) -> bool:
    """Whether `process`, from `identity`, ran on this machine and runs no more."""
    host, pid, started = process.rsplit(" ", 2)
    if host != socket.gethostname():
        return False
    try:
        current = psutil.Process(int(pid))
        # A clock that was set moves all starting times a little.
        same = abs(current.create_time() - float(started)) < 10
        # One that has ended stands in the table of processes until its parent has asked for it.
        return not same or current.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def is_worked_for(mlflow_run_id: str) -> bool:
    """Whether any process on this machine was started for that run by `mlflow run`."""
    return any(
        (process.info["environ"] or {}).get("MLFLOW_RUN_ID") == mlflow_run_id
        for process in psutil.process_iter(["environ"])
    )
