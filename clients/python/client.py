"""Creates a task, watches it to its end, also through restarts of the server, and prints its
result as JSON; the exit status is 0 where the task succeeded."""

import argparse, json, sys, time, uuid

import grpc
from google.protobuf.json_format import MessageToJson
from taskwatch.v1 import task_pb2, task_service_pb2 as pb
from taskwatch.v1.task_service_pb2_grpc import TaskServiceStub

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--address", default="127.0.0.1:50051")
parser.add_argument("kind")
parser.add_argument("input", nargs="?", type=json.loads, default={}, help="a JSON object")
args = parser.parse_args()
# The pings find out when a server is gone without a word.
channel = {"grpc.enable_http_proxy": 0, "grpc.max_reconnect_backoff_ms": 2000}
channel |= {"grpc.keepalive_time_ms": 20000, "grpc.http2.max_pings_without_data": 0}
channel |= {"grpc.http2.ping_timeout_ms": 5000}
stub = TaskServiceStub(grpc.insecure_channel(args.address, list(channel.items())))
LAST_WORDS = "INVALID_ARGUMENT NOT_FOUND PERMISSION_DENIED UNAUTHENTICATED UNIMPLEMENTED".split()

task, pause = task_pb2.Task(kind=args.kind, input=args.input), 0.1
# Under one id, so that a create whose answer was lost creates no second task.
create = pb.CreateTaskRequest(task=task, request_id=str(uuid.uuid4()))
while not task.HasField("end_time"):
    try:
        if not task.name:
            task = stub.CreateTask(create, timeout=10)
            print(task.name, file=sys.stderr)
        # A stream that ends before the task has ended was cut, whatever its status.
        watch = pb.WatchTaskRequest(name=task.name, after_revision=task.revision)
        for frame in stub.WatchTask(watch):
            task, pause = frame.task, 0.1
            state, percent = task_pb2.Task.State.Name(task.state), f"{task.progress.percent:.0f}"
            print(f"{state} {percent}% {task.progress.message}", file=sys.stderr)
    except grpc.RpcError as error:
        if error.code().name in LAST_WORDS:
            sys.exit(f"{error.code().name}: {error.details()}")
        print(f"{error.code().name}: trying again", file=sys.stderr)
    if not task.HasField("end_time"):
        time.sleep(pause)
        pause = min(2 * pause, 2)

if task.state != task_pb2.Task.SUCCEEDED:
    sys.exit(f"{task_pb2.Task.State.Name(task.state)}: {task.error.message}")
print(MessageToJson(task.result, indent=None))
