"""A worker for tasks of kind hash-files: {"directory": "..."} to {"files": n, "sha256": "..."},
a chain over the files in the order of their paths: link = SHA-256(link before + SHA-256(file)
+ path), the first one from 32 zero bytes."""

import argparse, contextlib, itertools, os, signal, threading, time
from hashlib import sha256

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2 as code, status_pb2
from taskwatch.v1 import task_pb2, worker_service_pb2 as pb
from taskwatch.v1.worker_service_pb2_grpc import WorkerServiceStub

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--address", default="127.0.0.1:50051")
parser.add_argument("--lease", type=int, default=30, help="seconds without a report")
parser.add_argument("--delay", type=int, default=0, help="milliseconds to rest after a MiB")
args = parser.parse_args()
channel = {"grpc.enable_http_proxy": 0, "grpc.max_reconnect_backoff_ms": 2000}
stub = WorkerServiceStub(grpc.insecure_channel(args.address, list(channel.items())))
stopping = threading.Event()
LAST_WORDS = {code.ABORTED, code.NOT_FOUND, code.INVALID_ARGUMENT, code.UNIMPLEMENTED}


def call(method, request, status=lambda _: status_pb2.Status()):
    """Asks until it is answered: only the server knows whether a lease still lives."""
    for tries in itertools.count():
        try:
            error = status(response := method(request, timeout=10))
        except grpc.RpcError as failure:
            error = status_pb2.Status(code=failure.code().value[0], message=failure.details())
        if error.code == code.OK:
            return response
        if error.code in LAST_WORDS or stopping.wait(min(0.1 * 2**tries, 2)):
            raise RuntimeError(error.message)


def files(folder, above=""):
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from files(entry.path, f"{above}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield above + entry.name


def work(top, kept, report):
    """Hashes the files behind the checkpoint; reports after each MiB and each file."""
    paths = sorted(files(top), key=os.fsencode)
    done, chain = int(kept.get("done", 0)), bytes.fromhex(kept.get("sha256", "00" * 32))
    for path in paths[done:]:
        digest = sha256()
        with open(os.path.join(top, path), "rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
                report()
        done, chain = done + 1, sha256(chain + digest.digest() + os.fsencode(path)).digest()
        progress = {"completed_units": done, "total_units": len(paths), "message": path}
        report(progress=progress, checkpoint={"done": done, "sha256": chain.hex()})
    return {"struct_value": {"files": done, "sha256": chain.hex()}}


def run(lease):
    ids = {"name": lease.task.name, "lease_token": lease.lease_token}
    beat = time.monotonic()

    def report(**what):
        """Tells what there is to tell, and every third of the lease that the work lives."""
        nonlocal beat
        again = stopping.wait(0 if what else args.delay / 1000)
        while what or again or time.monotonic() - beat > args.lease / 3:
            request = pb.ReportTasksRequest(reports=[{**ids, **what}])
            answer = call(stub.ReportTasks, request, lambda it: it.answers[0].error).answers[0]
            beat, what, again = time.monotonic(), {}, answer.wanted_state == task_pb2.Task.PAUSED
            if answer.wanted_state == task_pb2.Task.CANCELLING:
                raise InterruptedError("cancelled")
            if stopping.wait(min(1, args.lease / 3) if again else 0):
                raise InterruptedError("released")

    try:
        top = MessageToDict(lease.task.input).get("directory", "")
        outcome = {"result": work(top, MessageToDict(lease.task.checkpoint), report)}
    except InterruptedError as asked:
        outcome = {str(asked): True}
    except (OSError, ValueError) as e:
        missing = not os.path.isdir(top)
        error = {"code": code.INVALID_ARGUMENT if missing else code.INTERNAL, "message": str(e)}
        outcome = {"error": error, "permanent": missing}
    request = pb.FinishTasksRequest(outcomes=[{**ids, **outcome}])
    call(stub.FinishTasks, request, lambda it: it.statuses[0])


signal.signal(signal.SIGTERM, lambda *_: stopping.set())
request = pb.LeaseTasksRequest(worker=f"python-{os.getpid()}", kinds=["hash-files"])
request.lease_duration.seconds, request.wait.seconds = args.lease, 5
while not stopping.is_set():
    for lease in call(stub.LeaseTasks, request).leases:
        with contextlib.suppress(RuntimeError):  # The task is no longer ours.
            run(lease)
