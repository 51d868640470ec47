"""Creates tasks at all replicas in turn and follows each to its end, whichever replica dies or
drains meanwhile; prints their names and states."""

import argparse, json, sys, time, uuid
from concurrent.futures import ThreadPoolExecutor, as_completed

import grpc
from taskwatch.v1 import task_pb2, task_service_pb2 as pb
from taskwatch.v1.task_service_pb2_grpc import TaskServiceStub

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--address", default="127.0.0.1:50051", help="HOST:PORT,... or dns:///HOST:PORT")
parser.add_argument("--tasks", type=int, default=30)
parser.add_argument("--at-once", type=int, default=10)
parser.add_argument("kind")
parser.add_argument("input", nargs="?", type=json.loads, default={}, help="a JSON object")
args = parser.parse_args()

# In turn over all replicas but those that drain; what met one that was gone is asked again.
RETRY = {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2}
RETRY |= {"retryableStatusCodes": ["UNAVAILABLE"]}
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [{"name": [{}], "waitForReady": True, "retryPolicy": RETRY}],
}
# A replica that comes back is found within seconds, one that is silent is left.
channel = {"grpc.service_config": json.dumps(SERVICE_CONFIG), "grpc.enable_http_proxy": 0}
channel |= {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 2000}
channel |= {"grpc.keepalive_time_ms": 20000, "grpc.http2.max_pings_without_data": 0}
channel |= {"grpc.http2.ping_timeout_ms": 5000}
target = args.address
if ":///" not in target:
    # What gRPC makes of a list in its place is no authority: the server would refuse each call.
    target, channel["grpc.default_authority"] = f"ipv4:{target}", "replicas"
stub = TaskServiceStub(grpc.insecure_channel(target, list(channel.items())))


def follow():
    """Creates a task and watches it to its end. The policy sends the same request again, which
    creates once since it has an id. A watch that is cut goes on from the last revision seen."""
    task = task_pb2.Task(kind=args.kind, input=args.input)
    task = stub.CreateTask(pb.CreateTaskRequest(task=task, request_id=str(uuid.uuid4())), timeout=60)
    while not task.HasField("end_time"):
        error = None
        try:
            watch = pb.WatchTaskRequest(name=task.name, after_revision=task.revision)
            for frame in stub.WatchTask(watch):
                task = frame.task
        except grpc.RpcError as failure:
            if failure.code() == grpc.StatusCode.NOT_FOUND:
                raise
            error = f"{failure.code().name}: {failure.details()}"
        if not task.HasField("end_time"):
            print(f"{task.name}: cut at revision {task.revision}: {error}", file=sys.stderr)
            time.sleep(0.1)
    return task


with ThreadPoolExecutor(args.at_once) as threads:
    for ended in as_completed([threads.submit(follow) for _ in range(args.tasks)]):
        task = ended.result()
        print(task.name, task_pb2.Task.State.Name(task.state), flush=True)
