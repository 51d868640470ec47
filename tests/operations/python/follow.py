"""Follows a task with google-api-core's own poller, which takes it for an operation.

Prints a line of JSON for what it sees first, and one for the end.
"""

import argparse
import json

import grpc
from google.api_core import exceptions, operation
from google.api_core.operations_v1 import OperationsClient
from google.protobuf import json_format, struct_pb2
from taskwatch.v1 import task_pb2


def show(future, **outcome):
    """Prints where the operation is, the task in its metadata included."""
    done = future.done()
    state = task_pb2.Task.State.Name(future.metadata.state)
    print(json.dumps({"done": done, "state": state, **outcome}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cancel", action="store_true", help="cancel it, then follow")
    parser.add_argument("address")
    parser.add_argument("operation", help="operations/{task}")
    args = parser.parse_args()

    # A proxy of the environment is not for a server on this machine.
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(args.address, options) as channel:
        client = OperationsClient(channel)
        future = operation.from_gapic(
            client.get_operation(args.operation),
            client,
            result_type=struct_pb2.Value,
            metadata_type=task_pb2.Task,
        )
        show(future)
        if args.cancel:
            future.cancel()
        try:
            result = future.result(timeout=60)
            show(future, response=json_format.MessageToDict(result))
        except exceptions.GoogleAPICallError as error:
            code, _ = error.grpc_status_code.value
            show(future, code=code, message=error.message, cancelled=future.cancelled())


if __name__ == "__main__":
    main()
