// Command follow follows a task with Google's own longrunning client, which takes it
// for an operation. It prints a line of JSON for what it sees first, and one for the
// end.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"time"

	"cloud.google.com/go/longrunning"
	lroauto "cloud.google.com/go/longrunning/autogen"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"taskwatch.test/operations/taskwatchv1"
)

// line is what is printed; a failed operation has a code, a successful one a response.
type line struct {
	Done     bool            `json:"done"`
	State    string          `json:"state"`
	Response *structpb.Value `json:"response,omitempty"`
	Code     int             `json:"code,omitempty"`
	Message  string          `json:"message,omitempty"`
}

func main() {
	cancel := flag.Bool("cancel", false, "cancel it, then follow")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: follow [-cancel] ADDRESS operations/TASK")
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if err := follow(ctx, flag.Arg(0), flag.Arg(1), *cancel); err != nil {
		log.Fatal(err)
	}
}

func follow(ctx context.Context, address, name string, cancel bool) error {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A proxy of the environment is not for a server on this machine.
		grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer conn.Close()
	client, err := lroauto.NewOperationsClient(ctx, option.WithGRPCConn(conn))
	if err != nil {
		return err
	}
	op := longrunning.InternalNewOperation(client, &longrunningpb.Operation{Name: name})
	if err := op.Poll(ctx, nil); err != nil {
		return err
	}
	if err := show(op, line{}); err != nil {
		return err
	}
	if cancel {
		if err := op.Cancel(ctx); err != nil {
			return err
		}
	}
	var result structpb.Value
	err = op.Wait(ctx, &result)
	switch {
	case err == nil:
		return show(op, line{Response: &result})
	case op.Done():
		failure := status.Convert(err)
		return show(op, line{Code: int(failure.Code()), Message: failure.Message()})
	default:
		return err
	}
}

// show prints where the operation is, the task in its metadata included.
func show(op *longrunning.Operation, outcome line) error {
	var task taskwatchv1.Task
	if err := op.Metadata(&task); err != nil {
		return err
	}
	outcome.Done, outcome.State = op.Done(), task.GetState().String()
	return json.NewEncoder(os.Stdout).Encode(outcome)
}
